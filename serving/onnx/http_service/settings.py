"""What the service allows itself and its clients.

The section `serving` of a configuration is about another server, TensorFlow Serving: this one runs where no configuration is. Its options on the
two command lines, `tfwsss-onnx-serve` and `tfwsss serve`, have the defaults of this class.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

_POSITIVE = (
    *("max_batch", "max_batch_megapixels", "queue", "max_body_mb", "max_json_mb", "max_images", "time_limit_s", "write_limit_s"),
    *("connections", "connections_per_address", "header_limit_s", "codec_threads"),
)


def _codec_threads() -> int:
    return max(2, (os.cpu_count() or 2) // 2)


@dataclass(frozen=True)
class Settings:
    """Limits of one service.

    Attributes:
        name, version: of the model, in the addresses of the Open Inference Protocol.
        max_batch: photos that run together at most.
        max_batch_megapixels: pixels that run together at most (one larger photo runs alone).
        window_ms: how long a photo waits for others of its size while such are being read; an idle service never waits.
        queue: requests in the service at once; one more is answered 503.
        memory_mb: resident memory of the whole process; what would exceed it waits, and is answered 503 after half of
            `time_limit_s`. 0 takes what the model, a run of its largest tile and
            1200 MB for requests take.
        max_body_mb: length of a request; more is answered 413.
        max_json_mb: length of the JSON of an inference request (numbers as text take 20 times their length when parsed).
        max_images: photos in one inference request.
        time_limit_s: seconds for one request: 408 if its body has not arrived by then, 504 if its masks are not ready.
        write_limit_s: seconds for a client to read an answer.
        connections: open at once; one more closes that which has been idle longest, or is answered 503.
        connections_per_address: of them from one address.
        header_limit_s: seconds until a connection's first request line and headers must be there.
        codec_threads: threads that read photos and write PNG files.
        warm_up: (height, width) of the photos that are run before the service says that it is ready.

    Raises:
        ValueError: a limit is not positive.
    """

    name: str = "segmenter"
    version: str = "1"
    max_batch: int = 8
    max_batch_megapixels: float = 8.0
    window_ms: float = 3.0
    queue: int = 64
    memory_mb: float = 0.0
    max_body_mb: float = 32.0
    max_json_mb: float = 4.0
    max_images: int = 64
    time_limit_s: float = 30.0
    write_limit_s: float = 30.0
    connections: int = 512
    connections_per_address: int = 256
    header_limit_s: float = 10.0
    codec_threads: int = field(default_factory=_codec_threads)
    warm_up: tuple[tuple[int, int], ...] = ((512, 512),)

    def __post_init__(self):
        if not self.name or "/" in self.name:
            raise ValueError(f"name: found {self.name!r}, expected a name without '/'")
        for limit in _POSITIVE:
            if not getattr(self, limit) > 0:
                raise ValueError(f"{limit}: found {getattr(self, limit)}, expected more than 0")
        if not self.memory_mb >= 0:
            raise ValueError(f"memory_mb: found {self.memory_mb}, expected megabytes, or 0")
        if not 0 <= self.window_ms <= 1000:
            raise ValueError(f"window_ms: found {self.window_ms}, expected 0 to 1000")
