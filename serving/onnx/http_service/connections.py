"""Connections: how many, from whom, and how long one may say nothing, or not listen. uvicorn itself bounds none of it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

_READ_AHEAD = 64 * 1024  # bytes of a body that are read before anybody asks for them
_SWEEP_S = 0.5


class Connections:
    """All connections of a server.

    Args:
        most: open at once.
        most_per_address: of them from one address. One more closes the one that has been idle longest, of that address or
            of the address with the most; where none is idle, it is closed itself.
        silence_s: until a request's headers must be there.
        write_s: until an answer must be read.
    """

    def __init__(self, most: int, most_per_address: int, silence_s: float, write_s: float):
        self._most = most
        self._most_per_address = most_per_address
        self.silence_s = silence_s
        self.write_s = write_s
        self._open: dict[str, dict[Connection, None]] = {}
        self._count = 0
        self._sweeping: asyncio.TimerHandle | None = None

    def protocol(self) -> type[H11Protocol]:
        """The class that uvicorn makes one object of for each connection."""
        return type("BoundConnection", (Connection,), {"registry": self})

    def limit(self, most: int) -> None:
        """Keep to so many from now on."""
        self._most = min(self._most, most)

    def add(self, connection: Connection) -> bool:
        """Whether there is room; closes an idle one for it."""
        own = self._open.setdefault(connection.address, {})
        if len(own) >= self._most_per_address and not self._close_idle(own):
            return False
        if self._count >= self._most and not self._close_idle(max(self._open.values(), key=len)):
            return False
        own[connection] = None
        self._open[connection.address] = own
        self._count += 1
        if self._sweeping is None:
            self._sweeping = connection.loop.call_later(_SWEEP_S, self._sweep, connection.loop)
        return True

    def remove(self, connection: Connection) -> None:
        """It is closed."""
        own = self._open.get(connection.address, {})
        if connection in own:
            del own[connection]
            self._count -= 1
            if not own:
                self._open.pop(connection.address, None)

    def _close_idle(self, connections: dict[Connection, None]) -> bool:
        idle = min((each for each in connections if each.idle_since is not None), key=lambda each: each.idle_since, default=None)
        if idle is None:
            return False
        self.remove(idle)
        idle.transport.abort()
        return True

    def _sweep(self, loop) -> None:
        for connections in list(self._open.values()):
            for connection in list(connections):
                connection.look()
        self._sweeping = loop.call_later(_SWEEP_S, self._sweep, loop) if self._count else None


class Connection(H11Protocol):
    """One connection.

    Attributes:
        registry: set by `Connections.protocol`.
        idle_since: when its last answer ended or it was opened; None while a request is being served.
    """

    registry: Connections
    address = ""
    idle_since: float | None = None
    _unread_since: float | None = None
    _half_closed = False

    def connection_made(self, transport) -> None:
        transport.max_size = _READ_AHEAD  # of asyncio's own transports: it reads 256 kB at a time
        super().connection_made(transport)
        self.address = self.client[0] if self.client else ""
        self.idle_since = time.monotonic()
        if not self.registry.add(self):
            transport.write(_NO_ROOM)
            transport.close()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._note()

    def eof_received(self) -> bool:
        """The client sends no more. It may wait for its answer yet, or be gone: `look` finds out."""
        whole = self.conn.their_state in (h11.DONE, h11.MUST_CLOSE)
        before, self._half_closed = self._half_closed, self._served() and whole
        if self._half_closed and not before:
            self._ask_whether_it_listens()
        return self._half_closed

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._note()
        if self._half_closed and not self._served() and not self.transport.is_closing():
            self.transport.close()

    def connection_lost(self, error) -> None:
        self.registry.remove(self)
        super().connection_lost(error)

    def look(self) -> None:
        """Close it if it has been silent or deaf for too long, or its client is gone."""
        now = time.monotonic()
        if self.transport.get_write_buffer_size() == 0:
            self._unread_since = None
        elif self._unread_since is None:
            self._unread_since = now
        elif now - self._unread_since > self.registry.write_s:
            self.transport.abort()
        if self.idle_since is not None and now - self.idle_since > self.registry.silence_s and not self.transport.is_closing():
            self.transport.close()
        if self._half_closed and self._is_reset():
            self.transport.abort()

    def _served(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _note(self) -> None:
        if self._served():
            self.idle_since = None
        elif self.idle_since is None:
            self.idle_since = time.monotonic()

    def _ask_whether_it_listens(self) -> None:
        """Send what every client of HTTP/1.1 passes over; the system of one that is gone answers with a reset."""
        if not self.cycle.response_started and self.scope["http_version"] == "1.1":
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _is_reset(self) -> bool:
        with contextlib.suppress(OSError, AttributeError):
            return self.transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0
        return False


_TEXT = b'{"error":"too many connections; try again later"}'
_NO_ROOM = b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: %d\r\nRetry-After: 1\r\nConnection: close\r\n\r\n%s" % (len(_TEXT), _TEXT)
