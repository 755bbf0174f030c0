"""One run from start to end: fetch, embed, select, publish. No web, no command line, no job queue here.

`execute` is loaded when it is used: a server, which only needs to know how runs report, computes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from usl_backend.pipeline.run import execute

__all__ = ["execute"]


def __getattr__(name: str) -> object:
    """Load `execute`."""
    if name == "execute":
        from usl_backend.pipeline.run import execute

        return execute
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
