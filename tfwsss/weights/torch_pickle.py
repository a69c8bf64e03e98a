"""The pickle of a PyTorch checkpoint, interpreted without unpickling.

Python's unpickler calls whatever a file names. Here nothing is ever imported or called: the operations a state dict
needs are interpreted one by one into dicts, lists, tuples, numbers and `Tensor` descriptions, and the names of the
few functions PyTorch writes are compared with a list.
"""

import pickletools
from dataclasses import dataclass

from tfwsss.errors import WeightsError
from tfwsss.weights.limits import Cursor

# A state dict takes some hundred bytes a tensor.
MAX_PICKLE = 4 * 2**20
# About 45 operations describe a tensor; each may leave an object of a hundred bytes.
MAX_OPERATIONS = 500_000

STORAGES = {
    "FloatStorage": "f4",
    "DoubleStorage": "f8",
    "HalfStorage": "f2",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "u1",
}
_ORDERED_DICT = "collections.OrderedDict"
# The shorter names are those of PyTorch before 0.4, in which torchvision's first files were written.
_TENSORS = ("torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor")
_PARAMETERS = ("torch._utils._rebuild_parameter", "torch.nn.parameter.Parameter")
_SIZE = "torch.Size"
_ALLOWED = {_ORDERED_DICT, *_TENSORS, *_PARAMETERS, _SIZE, *(f"torch.{name}" for name in STORAGES)}


@dataclass(frozen=True)
class Name:
    """A function or class the pickle refers to."""

    name: str


@dataclass(frozen=True)
class Storage:
    """A run of numbers outside the pickle. `dtype`: a numpy type code or "bfloat16"."""

    dtype: str
    key: str
    count: int


@dataclass(frozen=True)
class Tensor:
    """A view of a storage; offset and strides in elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Mark:
    """Where a tuple, list or dict began on the stack."""


def _is_count(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**48


def _counts(value) -> tuple[int, ...]:
    if not isinstance(value, (tuple, list)) or not all(_is_count(side) for side in value):
        raise WeightsError("damaged PyTorch file: a tensor's size or stride is not a tuple of numbers")
    return tuple(value)


def _storage(reference) -> Storage:
    """From a persistent id: ("storage", type, key, device, count[, view])."""
    if not isinstance(reference, tuple) or len(reference) not in (5, 6) or reference[0] != "storage":
        raise WeightsError("damaged PyTorch file: a persistent id is not a storage")
    _, kind, key, _, count = reference[:5]
    dtype = STORAGES.get(kind.name.removeprefix("torch.")) if isinstance(kind, Name) else None
    if dtype is None or not isinstance(key, (str, int)) or not _is_count(count):
        raise WeightsError("damaged PyTorch file: a storage without type, key or size")
    if reference[5:] not in ((), (None,)):
        raise WeightsError("PyTorch file with views of storages (PyTorch before 0.4): save it again with a newer one")
    return Storage(dtype, str(key), count)


def _called(function, arguments):
    """What calling an allowed function gives."""
    if not isinstance(function, Name) or not isinstance(arguments, tuple):
        raise WeightsError("damaged PyTorch file: a call of something that is no function")
    if function.name == _ORDERED_DICT:
        table: dict = {}
        for pair in arguments[0] if arguments else ():  # Python 2 wrote the entries as arguments
            key, value = pair
            _store(table, key, value)
        return table
    if function.name in _TENSORS and len(arguments) >= 4 and isinstance(arguments[0], Storage):
        storage, offset, shape, strides = arguments[:4]
        shape, strides = _counts(shape), _counts(strides)
        if not _is_count(offset) or len(shape) != len(strides):
            raise WeightsError("damaged PyTorch file: a tensor's offset, size and stride do not go together")
        return Tensor(storage, offset, shape, strides)
    if function.name in _PARAMETERS and arguments and isinstance(arguments[0], Tensor):
        return arguments[0]
    if function.name == _SIZE and len(arguments) == 1:
        return _counts(arguments[0])
    raise WeightsError(f"damaged PyTorch file: {function.name} called with wrong arguments")


def _store(table, key, value) -> None:
    # Only plain keys: hashing nested tuples that share their parts can take for ever.
    if not isinstance(table, dict) or not isinstance(key, (str, int, float, type(None))):
        raise WeightsError("damaged PyTorch file: a dict entry that is none")
    table[key] = value


class _Machine:
    """The stack machine for one pickle; `run` gives its value."""

    def __init__(self):
        self.stack = []
        self.memo = {}
        self.storages: dict[str, Storage] = {}

    def pop_to_mark(self) -> list:
        taken = []
        while not isinstance(self.stack[-1], _Mark):
            taken.append(self.stack.pop())
        self.stack.pop()
        return taken[::-1]

    def pop(self, count: int) -> tuple:
        if len(self.stack) < count:
            raise IndexError("empty stack")
        taken = tuple(self.stack[len(self.stack) - count :])
        del self.stack[len(self.stack) - count :]
        if any(isinstance(value, _Mark) for value in taken):
            raise IndexError("mark in the way")
        return taken

    def name(self, module: str, name: str) -> Name:
        full = f"{module}.{name}"
        if full not in _ALLOWED:
            raise WeightsError(
                f"the pickle names {full!r}, which is not part of a state dict; refused. "
                "Save the state dict alone: torch.save(model.state_dict(), path)"
            )
        return Name(full)

    def recalled(self, slot: int):
        """What was kept in the memo. Containers are not: 60 tuples that hold the one before twice are 2**60 to who walks them."""
        value = self.memo[slot]
        if isinstance(value, (list, dict)) or (isinstance(value, tuple) and value):
            raise WeightsError(f"the pickle refers to a {type(value).__name__} twice, which no state dict does; refused")
        return value

    def set_items(self, entries: list) -> None:
        if len(entries) % 2:
            raise IndexError("key without value")
        for key, value in zip(entries[::2], entries[1::2], strict=True):
            _store(self.stack[-1], key, value)

    def extend(self, entries: list) -> None:
        if not isinstance(self.stack[-1], list):
            raise WeightsError("damaged PyTorch file: appending to something that is no list")
        self.stack[-1].extend(entries)

    def step(self, op: str, arg) -> None:
        """One operation other than STOP."""
        push = self.stack.append
        if op in ("PROTO", "FRAME"):
            pass
        elif op == "GLOBAL":
            push(self.name(*arg.split(" ", 1)))
        elif op == "STACK_GLOBAL":
            module, name = self.pop(2)
            if not isinstance(module, str) or not isinstance(name, str):
                raise WeightsError("damaged PyTorch file: a name that is no text")
            push(self.name(module, name))
        elif op in ("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE"):
            push(arg)
        elif op in ("BINSTRING", "SHORT_BINSTRING"):  # text of Python 2
            push(arg)
        elif op in ("NONE", "NEWTRUE", "NEWFALSE"):
            push({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[op])
        elif op in ("BINPUT", "LONG_BINPUT"):
            self.memo[arg] = self.stack[-1]
        elif op == "MEMOIZE":
            self.memo[len(self.memo)] = self.stack[-1]
        elif op in ("BINGET", "LONG_BINGET"):
            push(self.recalled(arg))
        elif op == "MARK":
            push(_Mark())
        elif op == "EMPTY_TUPLE":
            push(())
        elif op in ("TUPLE1", "TUPLE2", "TUPLE3"):
            push(self.pop(int(op[-1])))
        elif op == "TUPLE":
            push(tuple(self.pop_to_mark()))
        elif op == "EMPTY_LIST":
            push([])
        elif op == "EMPTY_DICT":
            push({})
        elif op == "APPEND":
            self.extend(list(self.pop(1)))
        elif op == "APPENDS":
            self.extend(self.pop_to_mark())
        elif op == "SETITEM":
            self.set_items(list(self.pop(2)))
        elif op == "SETITEMS":
            self.set_items(self.pop_to_mark())
        elif op == "BINPERSID":
            storage = _storage(*self.pop(1))
            if self.storages.setdefault(storage.key, storage) != storage:
                raise WeightsError(f"damaged PyTorch file: storage {storage.key!r} has two types or sizes")
            push(storage)
        elif op in ("REDUCE", "NEWOBJ"):
            push(_called(*self.pop(2)))
        elif op == "BUILD":  # attributes: the modules' version numbers of an OrderedDict, the flags of an old parameter
            owner, _ = self.pop(2)
            if not isinstance(owner, (dict, Tensor)):
                raise WeightsError("damaged PyTorch file: attributes of something that is neither dict nor tensor")
            push(owner)
        else:
            raise WeightsError(f"the pickle uses the operation {op}, which is not part of a state dict; refused")

    def run(self, cursor: Cursor):
        operations = pickletools.genops(cursor)  # type: ignore[arg-type]  # it reads, reads lines and tells, which is all that is asked of a file
        for count, (op, arg, _) in enumerate(operations):
            if count > MAX_OPERATIONS:
                raise WeightsError(f"a pickle of more than {MAX_OPERATIONS} operations")
            if op.name == "STOP":
                break
            self.step(op.name, arg)
        (value,) = self.stack
        return value


def interpret(cursor: Cursor):
    """The value of the pickle at the cursor, which moves behind it.

    Returns:
        (value, storages): dict, list, tuple, number, text, `Tensor`, `Storage` or None; and {key: Storage} of all
        storages it mentions.
    Raises:
        WeightsError: damaged, larger than 4 MiB or `MAX_OPERATIONS`, or anything beyond a state dict. Nothing was executed.
    """
    window = Cursor(cursor.data[: cursor.position + MAX_PICKLE], cursor.position)
    try:
        machine = _Machine()
        value = machine.run(window)
    except (ValueError, IndexError, KeyError, TypeError, OverflowError) as error:
        raise WeightsError(f"damaged PyTorch file: not a valid pickle: {error}") from error
    cursor.position = window.position
    return value, machine.storages
