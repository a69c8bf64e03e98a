"""Closing connections that open and then say nothing; uvicorn itself waits for a request's headers for ever."""

from __future__ import annotations

from uvicorn.protocols.http.h11_impl import H11Protocol


def timed_protocol(seconds: float) -> type[H11Protocol]:
    """A uvicorn protocol that closes a connection whose request's headers are not there within `seconds`."""

    class TimedProtocol(H11Protocol):
        _silence = None

        def connection_made(self, transport) -> None:
            super().connection_made(transport)
            self._wait()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self._served():
                self._stop_waiting()
            elif self._silence is None:
                self._wait()

        def connection_lost(self, error) -> None:
            self._stop_waiting()
            super().connection_lost(error)

        def _served(self) -> bool:
            return self.cycle is not None and not self.cycle.response_complete

        def _wait(self) -> None:
            self._silence = self.loop.call_later(seconds, self._close)

        def _stop_waiting(self) -> None:
            if self._silence is not None:
                self._silence.cancel()
                self._silence = None

        def _close(self) -> None:
            self._silence = None
            if not self._served() and not self.transport.is_closing():
                self.transport.close()

    return TimedProtocol
