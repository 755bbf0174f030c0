"""The server: Label Studio's ML-backend protocol, a JSON API and a few pages. No run is computed in its process."""

from __future__ import annotations

from usl_backend.web.app import create_app
from usl_backend.web.server import serve

__all__ = ["create_app", "serve"]
