"""Web server: Label Studio's ML-backend protocol, a JSON API and pages; runs are computed in other processes."""

from __future__ import annotations

from usl_backend.web.app import create_app
from usl_backend.web.server import serve

__all__ = ["create_app", "serve"]
