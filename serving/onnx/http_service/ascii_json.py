"""JSON answers that any text can be put into."""

from __future__ import annotations

import json

from starlette.responses import Response


class AsciiJSON(Response):
    """Starlette's own writes UTF-8, which has no form for half of a surrogate pair, as a client's JSON may hold one."""

    media_type = "application/json"

    def render(self, content) -> bytes:
        return json.dumps(content, separators=(",", ":"), allow_nan=False).encode("ascii")
