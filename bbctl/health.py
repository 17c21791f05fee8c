"""Is the service healthy? One question over HTTP, through the host's SSH connection or from here, and the judgement.

Through the connection means: a channel that the host's sshd opens to the address, so nothing need be installed there. A
server that forbids forwarding is asked by a command on the host instead.
"""

from __future__ import annotations

import re
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar
from urllib.parse import urlsplit

from bbctl.model import Health, HealthState, Host
from bbctl.remote import http
from bbctl.remote.http import Answer
from bbctl.remote.shell import script
from bbctl.ssh.transport import Session

T = TypeVar("T")
SINGLE = 5.0  # seconds for one question


class Stream(Protocol):
    def sendall(self, data: bytes, /) -> None: ...
    def recv(self, size: int, /) -> bytes: ...
    def settimeout(self, seconds: float | None, /) -> None: ...
    def close(self) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Asked:
    """`answer` is the same text on two hosts exactly when they said the same, their names and numbers apart."""

    state: HealthState
    answer: str = ""
    detail: str = ""


def ask(session: Session | None, host: Host, health: Health, *, within: float = SINGLE) -> Asked:
    """Ask once. Never raises: what went wrong is in the detail. `session` may be None for `from: here`."""
    parts = urlsplit(health.url)
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        address = parts.hostname or host.address
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    except ValueError as error:
        return Asked(state="unknown", detail=f"{health.url}: {error}")
    text = http.request(path, parts.netloc.rpartition("@")[2])
    deadline = time.monotonic() + within
    if health.source == "here" or session is None:
        found = _over(
            lambda left: socket.create_connection((address, port), left), parts.scheme, address, text, deadline
        )
    else:
        found = _through(session, parts.scheme, address, port, text, deadline)
    return judge(found, health, host)


def judge(found: Answer, health: Health, host: Host) -> Asked:
    """Healthy is 2xx and `expect` in the body."""
    if found.code is None:
        detail = found.error or "no answer"
        return Asked(state="failing", answer=normal(detail, host), detail=detail)
    good = 200 <= found.code < 300 and (health.expect is None or re.search(health.expect, found.body, re.I) is not None)
    said = " ".join(found.body.split())[:200]
    return Asked(
        state="ok" if good else "failing",
        answer=normal(f"{found.code} {said}", host),
        detail=f"{found.code} {said}".strip(),
    )


def normal(text: str, host: Host) -> str:
    """An answer without what differs from host to host by nature: its names, its address, numbers."""
    own = sorted({host.name, host.short, host.address, *host.aliases}, key=len, reverse=True)
    text = re.sub("|".join(re.escape(word) for word in own if word), "{host}", text, flags=re.I)
    return text[:3] + re.sub(r"\d+(?:[.,:]\d+)*", "#", text[3:])  # the first three are the status code


def _through(session: Session, scheme: str, address: str, port: int, text: str, deadline: float) -> Answer:
    try:
        return _over(
            lambda left: session.tunnel(address, port, timeout=left), scheme, address, text, deadline, forbidden=True
        )
    except PermissionError:
        if scheme == "https":
            return Answer(code=None, error="the server forbids forwarding, which https needs")
    left = max(1.0, deadline - time.monotonic())
    ran = session.run(script(http.ask(address, port, text, seconds=left)), timeout=left + 2, guard=True)
    return http.understand(ran.stdout)


def _over(
    connect: Callable[[float], Stream],
    scheme: str,
    address: str,
    text: str,
    deadline: float,
    *,
    forbidden: bool = False,
) -> Answer:
    """Send and read to the end, a whole answer or the deadline. With `forbidden`, PermissionError is the caller's."""
    stream: Stream | None = None
    try:
        stream = connect(max(0.1, deadline - time.monotonic()))
        if scheme == "https":
            stream = _Tls(stream, address)
        stream.settimeout(max(0.1, deadline - time.monotonic()))
        stream.sendall(text.encode("latin-1", "replace"))
        return http.understand(_read(stream, deadline))
    except TimeoutError:
        return Answer(code=None, error="no answer in time")
    except PermissionError as error:
        if forbidden:
            raise
        return Answer(code=None, error=str(error))
    except OSError as error:
        refused = isinstance(error, ConnectionRefusedError) or "refused" in str(error).lower()
        return Answer(code=None, error="connection refused" if refused else str(error))
    finally:
        if stream is not None:
            stream.close()


def _read(stream: Stream, deadline: float) -> bytes:
    data = b""
    while len(data) < http.LIMIT and not http.complete(data):
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        stream.settimeout(left)
        piece = stream.recv(65536)
        if not piece:
            break
        data += piece
    return data


class _Tls:
    """TLS over a stream that is no socket. The host was proven by its SSH key; the name in the certificate is not asked."""

    def __init__(self, stream: Stream, name: str) -> None:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        self._stream, self._in, self._out = stream, ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname=name)
        self._pump(self._tls.do_handshake)

    def sendall(self, data: bytes) -> None:
        self._pump(lambda: self._tls.write(data))

    def recv(self, size: int) -> bytes:
        try:
            return self._pump(lambda: self._tls.read(size))
        except ssl.SSLZeroReturnError:
            return b""

    def settimeout(self, seconds: float | None) -> None:
        self._stream.settimeout(seconds)

    def close(self) -> None:
        self._stream.close()

    def _pump(self, act: Callable[[], T]) -> T:
        """Do one thing of TLS, moving bytes to and from the stream as often as it asks for it."""
        while True:
            try:
                done = act()
                wants = False
            except ssl.SSLWantReadError:
                wants = True
            if self._out.pending:
                self._stream.sendall(self._out.read())
            if not wants:
                return done
            data = self._stream.recv(65536)
            if data:
                self._in.write(data)
            else:
                self._in.write_eof()
