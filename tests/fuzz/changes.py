"""How a good file becomes a hostile one: seeded changes of bytes, and pickles put together from operations."""

from __future__ import annotations

import random
import struct

from tests.fuzz.readers import pickled_label_file, torch_zip

NUMBERS = [0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**32, 2**62, 2**63 - 1, 2**63, 2**64 - 1]
OPERATIONS = [
    *(b"(", b")", b"]", b"}", b"t", b"\x85", b"\x86", b"\x87", b"l", b"d", b"a", b"e", b"s", b"u", b"0", b"2", b"1", b"N", b"\x88", b"\x89", b"R", b"b", b"\x81", b"Q", b"\x94", b"\x93"),
    *(b"K\x01", b"K\xff", b"M\xff\xff", b"J\xff\xff\xff\xff", b"X\x01\x00\x00\x00x", b"U\x01x", b"C\x01x", b"I1\n", b"L9L\n", b"V\\ud800\n", b"G\x7f\xf8\x00\x00\x00\x00\x00\x00"),
    *(b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f", b"\x8b\xff\xff\xff\x7f", b"\x8d\xff\xff\xff\xff\xff\xff\xff\x7f", b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f", b"\x96\xff\xff\xff\xff\x01\x00\x00\x00"),
    *(b"ctorch\nFloatStorage\n", b"ctorch._utils\n_rebuild_tensor_v2\n", b"ccollections\nOrderedDict\n", b"cnumpy\nndarray\n", b"cnumpy\ndtype\n", b"cnumpy.core.multiarray\n_reconstruct\n", b"cos\nsystem\n", b"c_codecs\nencode\n"),
    *(b"X\x07\x00\x00\x00storage", b"\x95\xff\xff\xff\xff\xff\xff\xff\x7f", b"r\xff\xff\xff\x7f", b"j\x00\x00\x00\x00"),
]


def changed(sample: bytes, generator: random.Random) -> bytes:
    """The sample with one to eight changes: bits, numbers of 1 to 8 bytes, cuts, repeats, a stretch from elsewhere."""
    data = bytearray(sample)
    for _ in range(generator.randint(1, 8)):
        if not data:
            break
        # Structure is at the start and, in archives, at the end.
        at = generator.choice((generator.randrange(len(data)), generator.randrange(min(256, len(data))), len(data) - 1 - generator.randrange(min(256, len(data)))))
        kind = generator.randrange(6)
        if kind == 0:
            data[at] ^= 1 << generator.randrange(8)
        elif kind == 1:
            width = generator.choice((1, 2, 4, 8))
            number = generator.choice(NUMBERS) & (256**width - 1)
            data[at : at + width] = struct.pack("<Q", number)[:width]
        elif kind == 2:
            del data[at : at + generator.randint(1, 64)]
        elif kind == 3:
            data[at:at] = data[at : at + generator.randint(1, 64)] * generator.randint(1, 50)
        elif kind == 4:
            start = generator.randrange(len(data))
            data[at : at + 16] = data[start : start + 16]
        else:
            del data[at:]
    return bytes(data)


def pickled(generator: random.Random) -> bytes:
    """A random program of pickle operations, often with objects that share their parts."""
    program = bytearray(b"\x80" + bytes([generator.choice((2, 4, 5))]))
    slot = 0
    for _ in range(generator.randint(1, 60)):
        if generator.random() < 0.3 and slot < 200:
            program += b"q" + bytes([slot]) + b"h" + bytes([slot]) + generator.choice((b"\x86", b"a", b"s", b""))
            slot += 1
        else:
            program += generator.choice(OPERATIONS)
    return bytes(program) + b"."


def hostile(name: str, sample: bytes, generator: random.Random) -> bytes:
    """A file for the reader of that name."""
    if name == "torch.pth" and generator.random() < 0.5:
        return torch_zip(pickled(generator), bytes(64))
    if name == "cls_labels.npy" and generator.random() < 0.5:
        return pickled_label_file(pickled(generator))
    return changed(sample, generator)
