"""Connections of the server: who sends no complete request makes room for others, so that a flood silences no probe.

A body that its sender may not send is not received: the app answers its head.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser
from waitress.server import MultiSocketServer, TcpWSGIServer

if TYPE_CHECKING:
    from flask import Flask
    from waitress.task import ThreadedTaskDispatcher

BodyLimit = Callable[[str, Mapping[str, str]], int]
"""Bytes of body that the head of a request admits, from its path and headers; these are named as in `CONTENT_TYPE`."""
CONNECTIONS: Final = 500
"""Most connections held open at once; a new one takes the place of one that is at no request."""
HEAD_SECONDS: Final = 10.0
"""Time a client has to send the head of a request, counted from its connection, or the first byte of a later head."""
IDLE_SECONDS: Final = 60
"""Time without activity after which a connection that has been served is closed."""
_PROMPT_SECONDS: Final = 1.0
"""Time within which clients send a head: Label Studio and probes wait no longer than this for the answer."""
_SPARE: Final = 10
"""Connections, listening sockets among them, below waitress's own limit, at which it would accept nobody."""
_SWEEP_SECONDS: Final = 2
"""Time between two looks for those that are late."""


class WeighedRequest(HTTPRequestParser):  # type: ignore[misc]  # waitress has no types
    """Request whose body is received only as far as its head admits; beyond that it is complete, without a body.

    The app then refuses it as it refuses any other, and the connection ends with the answer.
    """

    body_rcv: Any
    completed: bool

    def __init__(self, settings: Adjustments, *, limit: BodyLimit) -> None:
        super().__init__(settings)
        self._limit = limit
        self._most: int | None = None

    def received(self, data: bytes) -> int:
        """Take bytes of the client; return how many of them were of this request."""
        taken = int(super().received(data))
        if self.body_rcv is None or self.error:
            return taken
        if self._most is None:
            self._most = self._limit(self.path, self.headers)
        if max(self.content_length, self.body_bytes_received) > self._most:
            self.close()
            self.body_rcv = None
            # The app is told of a size that it refuses, also where the client sent chunks and told none.
            self.headers.setdefault("CONTENT_LENGTH", str(self.body_bytes_received))
            self.headers["CONNECTION"] = "close"
            self.expect_continue = False
            self.completed = True
        return taken


class TimedConnection(HTTPChannel):  # type: ignore[misc]  # waitress has no types
    """One client's connection, which knows since when its client owes a head."""

    owed_since: float | None

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.parser_class = partial(WeighedRequest, limit=self.server.limit)
        self.owed_since = time.time()

    def received(self, data: bytes) -> bool:
        """Take bytes of the client, and note whether they complete a head."""
        pending = len(self.requests)
        taken = bool(super().received(data))
        if self.request is None or self.request.headers_finished:
            self.owed_since = None
        elif self.owed_since is None or len(self.requests) > pending:
            self.owed_since = time.time()
        return taken

    def is_dispensable(self, now: float) -> bool:
        """Return True if no request of the client's is queued or computed, and it does not read a response."""
        reads = self.total_outbufs_len and now < self.last_activity + HEAD_SECONDS
        return not (self.requests or reads or self.will_close)

    def is_silent(self, now: float) -> bool:
        """Return True if a head is owed for longer than any client of ours takes for one."""
        return self.owed_since is not None and now > self.owed_since + _PROMPT_SECONDS

    def is_late(self, now: float) -> bool:
        """Return True if the head has been owed for too long."""
        return self.owed_since is not None and now > self.owed_since + HEAD_SECONDS and not self.requests


class Listener(TcpWSGIServer):  # type: ignore[misc]  # waitress has no types
    """Listening socket that closes late connections, and the oldest dispensable one when there are too many."""

    channel_class = TimedConnection

    def __init__(self, *arguments: Any, limit: BodyLimit, **more: Any) -> None:
        self.limit = limit
        super().__init__(*arguments, **more)

    def maintenance(self, now: float) -> None:
        """Close connections that were served and are idle, and those whose client owes a head for too long."""
        super().maintenance(now)
        for connection in self.active_channels.values():
            if connection.is_late(now):
                connection.will_close = True

    def handle_accept(self) -> None:
        """Accept a connection; beyond the limit the oldest silent one goes, or else the oldest that is dispensable."""
        super().handle_accept()
        if len(self._map) > self.adj.connection_limit - _SPARE:
            now = time.time()
            candidates = [one for one in self.active_channels.values() if one.is_dispensable(now)]
            if candidates:
                # Closed in the next pass: in this one its descriptor might still be looked at.
                first = min(candidates, key=lambda one: (not one.is_silent(now), one.creation_time))
                first.will_close = True


def listen(
    app: Flask, dispatcher: ThreadedTaskDispatcher, *, host: str, port: int, most_bytes: int, limit: BodyLimit
) -> MultiSocketServer:
    """Listen on every address of a host.

    Parameters
    ----------
    app, dispatcher
        What answers requests, and the threads that do it.
    host, port
        Name or address, and the port; 0 takes a free one.
    most_bytes
        Size of a body from which a request is refused, whoever sends it.
    limit
        Size of a body that the head of a request admits; a larger one is not received.

    Returns
    -------
    MultiSocketServer
        `run` serves until SystemExit, `close` ends it.

    Raises
    ------
    OSError
        An address cannot be listened on.
    """
    settings = Adjustments(
        host=host,
        port=port,
        ident=None,
        clear_untrusted_proxy_headers=True,
        max_request_body_size=most_bytes,
        connection_limit=_allowed(CONNECTIONS) + _SPARE,
        channel_timeout=IDLE_SECONDS,
        cleanup_interval=_SWEEP_SECONDS,
        asyncore_use_poll=True,
    )
    map_: dict[int, Any] = {}
    listeners = [
        Listener(app, map_, dispatcher=dispatcher, adj=settings, sockinfo=address, limit=limit)
        for address in settings.listen
    ]
    addresses = [(one.effective_host, one.effective_port) for one in listeners]
    return MultiSocketServer(map_, settings, addresses, dispatcher, listeners[0].log_info)


def _allowed(wanted: int) -> int:
    """Number of connections for which files may be opened, beside as many for the rest; asks the system for more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    if soft < 2 * wanted:
        soft = 2 * wanted if hard == resource.RLIM_INFINITY else max(soft, min(2 * wanted, hard))
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return min(wanted, soft // 2)
