"""Send GET requests over connections to checked addresses; `addresses.py` checks them."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import time
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, cast

import certifi

if TYPE_CHECKING:
    from usl_backend.media.addresses import Address, Hop

    _SocketBase = socket.socket
else:
    _SocketBase = object

_CONNECT_SECONDS: Final = 10.0
_IDLE_PER_ADDRESS: Final = 16
_IDLE_TOTAL: Final = 64


class _Deadline(_SocketBase):
    """Socket mixin that checks the deadline before every receive, so that slow trickles cannot outlast it."""

    deadline = 0.0

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        remaining = self.deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError("deadline passed")
        self.settimeout(remaining)
        return super().recv_into(*args, **kwargs)


class _PlainSocket(_Deadline, socket.socket):
    """Plain socket with a deadline."""


class _TLSSocket(_Deadline, ssl.SSLSocket):
    """TLS socket with a deadline."""


class Connection(http.client.HTTPConnection):
    """Connection to one checked address, whatever the name resolves to later.

    Parameters
    ----------
    target
        Its host goes into the Host header, SNI and the certificate check.
    address
        Address to connect to.
    context
        For https, else None.
    deadline
        `time.monotonic()` seconds.

    Raises
    ------
    OSError
        The connection or the certificate check failed.
    """

    def __init__(
        self, target: Hop, address: Address, context: ssl.SSLContext | None, deadline: float
    ) -> None:
        super().__init__(target.host, target.port)
        self.target, self.address = target, address
        plain: socket.socket = _PlainSocket(address.family, socket.SOCK_STREAM)
        try:
            plain.settimeout(max(0.001, min(_CONNECT_SECONDS, deadline - time.monotonic())))
            plain.connect(address.sockaddr)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.sock = context.wrap_socket(plain, server_hostname=target.host) if context else plain
        except BaseException:
            plain.close()
            raise

    def connect(self) -> None:
        """Refuse http.client's own reconnect, which would resolve the name again."""
        raise http.client.NotConnected

    def get(self, request: str, headers: dict[str, str], deadline: float) -> http.client.HTTPResponse:
        """Send GET and read the head of the response; the body is read under the same deadline.

        Parameters
        ----------
        request
            Path and query.
        headers
            All headers, including Host.
        deadline
            `time.monotonic()` seconds.

        Returns
        -------
        http.client.HTTPResponse
            Must be read to its end before the next `get`.
        """
        self.sock.settimeout(max(0.001, deadline - time.monotonic()))
        cast("_Deadline", self.sock).deadline = deadline
        self.request("GET", request, headers=headers)
        return self.getresponse()


class Connections:
    """Pool of connections; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._closed = False
        self._idle: dict[tuple[tuple[str, str, int], str], list[Connection]] = {}

    @cached_property
    def _trust(self) -> ssl.SSLContext:
        """Certificates that are trusted, read at the first HTTPS address: pools of files or of plain HTTP need none."""
        context = ssl.create_default_context()
        context.load_verify_locations(certifi.where())
        context.sslsocket_class = _TLSSocket
        return context

    def get(
        self, target: Hop, addresses: list[Address], headers: dict[str, str], deadline: float
    ) -> tuple[Connection, http.client.HTTPResponse]:
        """Send GET over an idle or a new connection to one of the checked addresses.

        Parameters
        ----------
        addresses
            Tried in this order.
        headers
            Headers except Host, which is set here.
        deadline
            `time.monotonic()` seconds.

        Returns
        -------
        tuple
            The connection, to be passed to `keep` or closed, and the response.

        Raises
        ------
        OSError
            No address answered.
        http.client.HTTPException
            The answer is not HTTP.
        """
        headers = {**headers, "Host": target.authority, "Accept-Encoding": "identity"}
        for address in addresses:
            while (idle := self._take(target, address)) is not None:
                try:
                    return idle, idle.get(target.request, headers, deadline)
                except (OSError, http.client.HTTPException):
                    idle.close()  # the server may close an idle connection
                    if time.monotonic() >= deadline:
                        raise
        context = self._trust if target.scheme == "https" else None
        for position, address in enumerate(addresses, start=1):
            try:
                connection = Connection(target, address, context, deadline)
            except OSError:
                if position == len(addresses):
                    raise
                continue
            try:
                return connection, connection.get(target.request, headers, deadline)
            except BaseException:
                connection.close()
                raise
        raise AssertionError("no address to connect to")

    def keep(self, connection: Connection, response: http.client.HTTPResponse) -> None:
        """Return a connection to the pool if its response was read to the end and there is room; else close it."""
        complete = (response.isclosed() or response.length == 0) and not response.will_close
        # A thread may still be reading after the pool was closed.
        complete = complete and not self._closed
        response.close()
        if complete:
            with self._lock:
                idle = self._idle.setdefault((connection.target.origin, connection.address.sockaddr[0]), [])
                total = sum(len(connections) for connections in self._idle.values())
                if len(idle) < _IDLE_PER_ADDRESS and total < _IDLE_TOTAL:
                    idle.append(connection)
                    return
        connection.close()

    def close(self) -> None:
        """Close the idle connections."""
        with self._lock:
            self._closed = True
            idle = [connection for connections in self._idle.values() for connection in connections]
            self._idle.clear()
        for connection in idle:
            connection.close()

    def _take(self, target: Hop, address: Address) -> Connection | None:
        with self._lock:
            idle = self._idle.get((target.origin, address.sockaddr[0]))
            return idle.pop() if idle else None
