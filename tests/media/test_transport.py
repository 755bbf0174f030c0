import datetime as dt
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from usl_backend.media import Location, MediaLimits, MediaReader, UnavailableError

NAME = "pictures.test"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Key and certificate of an authority of its own, valid for NAME only."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, NAME)])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "certificate.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


class TLSServer:
    """Answers every connection once, and notes the name the client asked for."""

    def __init__(self, certificate: Path, answer: bytes) -> None:
        self.answer = answer
        self.names: list[str | None] = []
        self.heads: list[bytes] = []
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificate)
        self.context.sni_callback = lambda _socket, name, _context: self.names.append(name)
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port = self.listening.getsockname()[1]
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        while True:
            try:
                plain, _ = self.listening.accept()
            except OSError:
                return
            plain.settimeout(5)
            try:
                with self.context.wrap_socket(plain, server_side=True) as secure:
                    self.heads.append(secure.recv(65536))
                    secure.sendall(self.answer)
                    if self.answer.endswith(b"..."):
                        self.stopped.wait(5)
            except OSError:
                plain.close()

    def close(self) -> None:
        self.stopped.set()
        self.listening.shutdown(socket.SHUT_RDWR)
        self.listening.close()
        self.thread.join()


@pytest.fixture
def server(certificate: Path) -> Iterator[TLSServer]:
    made = TLSServer(certificate, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nbytes")
    yield made
    made.close()


def to_loopback(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]


@pytest.fixture
def reader(certificate: Path) -> Iterator[MediaReader]:
    limits = MediaLimits(seconds=2.0)
    with MediaReader(limits=limits, allowed_hosts=[NAME, "other.test"], resolver=to_loopback) as made:
        made._connections._trust.load_verify_locations(certificate)
        yield made


def test_read__tls_asks_for_the_name_at_the_checked_address(server: TLSServer, reader: MediaReader) -> None:
    assert reader.read(Location(url=f"https://{NAME}:{server.port}/a.png")) == b"bytes"
    assert server.names == [NAME]
    assert f"Host: {NAME}:{server.port}\r\n".encode() in server.heads[0]


def test_read__tls_certificate_of_another_name_is_refused(server: TLSServer, reader: MediaReader) -> None:
    with pytest.raises(UnavailableError, match=r"connection to other\.test failed"):
        reader.read(Location(url=f"https://other.test:{server.port}/a.png"), once=True)
    assert server.heads == []


def test_read__tls_unknown_authority_is_refused(server: TLSServer) -> None:
    with (
        MediaReader(allowed_hosts=[NAME], resolver=to_loopback) as strict,
        pytest.raises(UnavailableError, match="connection to"),
    ):
        strict.read(Location(url=f"https://{NAME}:{server.port}/a.png"), once=True)
    assert server.heads == []


def test_read__tls_silence_ends_at_the_deadline(certificate: Path) -> None:
    slow = TLSServer(certificate, b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n...")
    try:
        limits = MediaLimits(seconds=0.5)
        with MediaReader(limits=limits, allowed_hosts=[NAME], resolver=to_loopback) as impatient:
            impatient._connections._trust.load_verify_locations(certificate)
            with pytest.raises(UnavailableError, match="did not deliver in time"):
                impatient.read(Location(url=f"https://{NAME}:{slow.port}/a.png"), once=True)
    finally:
        slow.close()


def test_read__files_and_plain_http_read_no_certificates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    monkeypatch.setattr(ssl, "create_default_context", lambda *rest, **_: asked.append(rest))
    (tmp_path / "a.png").write_bytes(b"bytes")
    nobody = socket.create_server(("127.0.0.1", 0))
    port = nobody.getsockname()[1]
    nobody.close()
    with MediaReader(local_roots=(tmp_path,), allowed_hosts=[NAME], resolver=to_loopback) as reader:
        assert reader.read(Location(path=tmp_path / "a.png")) == b"bytes"
        with pytest.raises(UnavailableError, match="failed"):
            reader.read(Location(url=f"http://{NAME}:{port}/a.png"), once=True)
    assert asked == []
