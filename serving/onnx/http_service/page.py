"""The page at `/`: one file without any address of others, whose script and style the browser checks by their hashes."""

from __future__ import annotations

import base64
import functools
import hashlib
import html
import json
import re
from pathlib import Path

from starlette.responses import HTMLResponse

from ..segmenter import Segmenter
from .settings import Settings

_TEMPLATE = Path(__file__).with_name("page.html")


def page_response(segmenter: Segmenter, settings: Settings) -> HTMLResponse:
    """The page for this model."""
    facts = {
        "name": settings.name,
        "version": settings.version,
        "device": segmenter.device,
        "precision": str(segmenter.metadata.get("precision", "")),
        "labels": list(segmenter.labels),
        "maxMegabytes": settings.max_body_mb,
        "maxMegapixels": segmenter.max_megapixels,
    }
    text, policy = _page(json.dumps(facts))
    headers = {"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-cache"}
    return HTMLResponse(text, headers=headers)


@functools.lru_cache(maxsize=8)
def _page(facts: str) -> tuple[str, str]:
    """(HTML, its Content-Security-Policy). The facts go into an attribute, which the script reads as text."""
    template = _TEMPLATE.read_text(encoding="utf-8")
    policy = [
        "default-src 'none'",
        f"script-src {_hash(template, 'script')}",
        f"style-src {_hash(template, 'style')}",
        "img-src 'self' blob: data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
    return template.replace("@FACTS@", html.escape(facts, quote=True)), "; ".join(policy)


def _hash(template: str, element: str) -> str:
    found = re.search(f"<{element}>(.*?)</{element}>", template, re.DOTALL)
    if found is None:
        raise ValueError(f"the page has no <{element}>")
    return f"'sha256-{base64.b64encode(hashlib.sha256(found.group(1).encode()).digest()).decode()}'"
