"""An exported segmenter behind HTTP: Open Inference Protocol V2, `POST /segment`, Prometheus metrics and a page.

Needs the extra `http`: starlette, uvicorn, prometheus-client and python-multipart.

There are more files here than in other folders: each protocol, each limit and the page has its own.
"""

from .app import create_app
from .settings import Settings

__all__ = ["Settings", "create_app"]
