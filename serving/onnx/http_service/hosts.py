"""Which names a request may call this service by.

A page of somebody else's can have its own name resolved to 127.0.0.1 (DNS rebinding); the browser then takes the service for a part
of that page. Its requests carry that page's name in the header Host.
"""

from __future__ import annotations

import ipaddress
import re

from .request import failure

LOCAL = ("localhost", "127.0.0.1", "::1")
_MISDIRECTED = 421


class HostCheck:
    """An ASGI application that answers 421 to requests for other names, and passes all others on.

    Args:
        app: the application behind it.
        names: host names and addresses without ports, besides `LOCAL`; "*" allows all.
        any_address: IP addresses are allowed, too: no page can take one for its own name.
    """

    def __init__(self, app, names, *, any_address: bool = False):
        self._app = app
        self._names = {name.strip("[]").lower().rstrip(".") for name in (*LOCAL, *names)}
        self._any_address = any_address

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] == "http" and not self._allowed(scope["headers"]):
            response = failure(_MISDIRECTED, "Host: not a name of this service; allow it with --allow-host", close=True)
            return await response(scope, receive, send)
        await self._app(scope, receive, send)

    def _allowed(self, headers) -> bool:
        if "*" in self._names:
            return True
        hosts = [value.decode("latin-1") for name, value in headers if name == b"host"]
        return all(self._known(host) for host in hosts)  # HTTP/1.0 needs none, and no browser speaks it

    def _known(self, host: str) -> bool:
        found = re.fullmatch(r"(?:\[(?P<six>[0-9a-fA-F:.]+)\]|(?P<name>[^:\[\]]+))(?::[0-9]*)?", host)
        if found is None:
            return False
        name = (found["six"] or found["name"]).lower().rstrip(".")
        return name in self._names or (self._any_address and _is_address(name))


def is_loopback(host: str) -> bool:
    """Whether a service that listens on `host` is reachable from this machine only."""
    return host == "localhost" or (_is_address(host.strip("[]")) and ipaddress.ip_address(host.strip("[]")).is_loopback)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
