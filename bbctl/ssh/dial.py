"""From a name to a connected TCP socket, each stage under a deadline and named when it fails.

A login has four stages before it authenticates: resolve, connect, banner, key exchange. The first two are here; the other
two belong to `bbctl.ssh.transport`, which raises the same NotLoggedIn.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Literal, Protocol

from bbctl.errors import BbctlError
from bbctl.model import Host

Stage = Literal["resolve", "connect", "banner", "key exchange"]
Refusal = Literal["unreachable", "auth-failed", "host-key"]

FIRST_BYTES = 256  # kept, to tell what a server said instead of its banner
AHEAD = 2.0  # seconds for a name that nobody waits for yet
DEAD_PEER = 20.0  # seconds without an acknowledgement after which the kernel gives a connection up

# What people say for it: the kernel's words name the cause less well.
_CAUSES = {
    errno.ECONNREFUSED: "refused: nothing listens there",
    errno.EHOSTUNREACH: "no route to the host",
    errno.ENETUNREACH: "no route to its network",
    errno.ETIMEDOUT: "no answer",
    errno.ECONNRESET: "closed by the other side",
}


class NotLoggedIn(BbctlError):
    """A host that could not be logged in to. `status` is its word; `stage` is set where that is `unreachable`."""

    def __init__(
        self,
        status: Refusal,
        message: str,
        *,
        stage: Stage | None = None,
        fingerprint: str | None = None,
        next: str | None = None,
    ) -> None:
        said = f"{stage}: {message}" if stage else message
        super().__init__(said, next=next, code=status, exit=3 if status == "host-key" else 4)
        self.status: Refusal = status
        self.stage = stage
        self.fingerprint = fingerprint


class Stream(Protocol):
    """What is needed of a socket; an SSH channel to a jump host's far side is one too."""

    def recv(self, size: int, /) -> bytes: ...
    def send(self, data: bytes, /) -> int: ...
    def settimeout(self, seconds: float | None, /) -> None: ...
    def close(self) -> None: ...


class Wire:
    """A stream as an SSH library reads it: a few bytes at a time, from our buffer, so that the kernel is asked rarely.

    TCP_NODELAY, and TCP_QUICKACK armed again after each read (the kernel disarms it): delayed acknowledgements otherwise
    stall every round trip by 40 ms. `heard` is when the peer last said anything; `first` its first bytes.
    """

    def __init__(self, stream: Stream, now: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._tcp = stream if isinstance(stream, socket.socket) else None
        self._now = now
        self._buffer = memoryview(b"")
        self._closed = False  # a name that paramiko looks at when it ends
        self.first = b""
        self.heard = now()
        if self._tcp:
            self._tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(DEAD_PEER * 1000))
            self._tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def recv(self, size: int) -> bytes:
        if not self._buffer:
            data = self._stream.recv(65536)
            self.heard = self._now()
            if self._tcp:
                with suppress(OSError):  # closed meanwhile: the next read says so
                    self._tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            if len(self.first) < FIRST_BYTES:
                self.first = (self.first + data)[:FIRST_BYTES]
            if len(data) <= size:
                return data
            self._buffer = memoryview(data)
        part, self._buffer = self._buffer[:size], self._buffer[size:]
        return bytes(part)

    def send(self, data: bytes) -> int:
        return self._stream.send(data)

    def settimeout(self, seconds: float | None) -> None:
        self._stream.settimeout(seconds)

    def getpeername(self) -> Any:
        return self._tcp.getpeername() if self._tcp else ("", 0)

    def close(self) -> None:
        """Wakes a reader too: closing alone would leave it asleep until its timeout."""
        self._closed = True
        if self._tcp:
            with suppress(OSError):
                self._tcp.shutdown(socket.SHUT_RDWR)
        self._stream.close()


Address = tuple[socket.AddressFamily, tuple[Any, ...]]


def resolve(name: str, port: int, within: float) -> list[Address]:
    """The addresses of a name. Raises NotLoggedIn (resolve) where there is none, or no answer `within` seconds."""
    for family in (socket.AF_INET, socket.AF_INET6):
        with suppress(OSError, ValueError):
            socket.inet_pton(family, name)
            return [(family, (name, port))]
    found: list[Address] = []
    cause: list[str] = []

    def ask() -> None:
        try:
            found.extend((a[0], a[4]) for a in socket.getaddrinfo(name, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            cause.append(getattr(error, "strerror", None) or str(error))

    # A thread, because the C library's resolver knows no deadline of ours.
    asker = threading.Thread(target=ask, daemon=True, name=f"resolve {name}")
    asker.start()
    asker.join(max(0.0, within))
    if found and not asker.is_alive():
        return found
    said = cause[0] if cause else f"no answer within {round(within, 1):g}s"
    raise NotLoggedIn("unreachable", f"{name}: {said}", stage="resolve", next=f"getent hosts {name}")


class Ahead:
    """Connections that are begun before anybody asks for them: while we still load what speaks over them, the servers are
    at work. Nothing is said over them. Whoever wants one that is not there yet dials as ever, and hears the cause if any."""

    def __init__(self, hosts: Iterable[Host]) -> None:
        self._lock = threading.Lock()
        places = [(h.address, h.ssh.port) for h in hosts if h.ssh.jump is None and h.ssh.config is None]
        self._wanted = set(places)
        self._begun: dict[tuple[str, int], socket.socket] = {}
        threading.Thread(target=self._begin, args=(places,), daemon=True, name="dial ahead").start()

    def take(self, name: str, port: int) -> socket.socket | None:
        """The connection, where it stands by now; the caller's from here on."""
        with self._lock:
            self._wanted.discard((name, port))
            sock = self._begun.pop((name, port), None)
        if sock is None or _stands(sock):
            return sock
        sock.close()
        return None

    def close(self) -> None:
        """Those that nobody took are closed, and no more are begun."""
        with self._lock:
            self._wanted.clear()
            for sock in self._begun.values():
                sock.close()
            self._begun.clear()

    def _begin(self, places: Iterable[tuple[str, int]]) -> None:
        for name, port in places:
            with suppress(NotLoggedIn, OSError):  # whoever wants it is told
                family, address = resolve(name, port, AHEAD)[0]
                with self._lock:
                    if (name, port) in self._wanted:
                        self._wanted.discard((name, port))
                        sock = self._begun[name, port] = socket.socket(family, socket.SOCK_STREAM)
                        sock.setblocking(False)
                        sock.connect_ex(address)


def _stands(sock: socket.socket) -> bool:
    """Whether a connection that was begun is there, and nothing went wrong with it."""
    look = select.poll()
    look.register(sock, select.POLLOUT)
    return [event for _, event in look.poll(0)] == [select.POLLOUT]


def connect(
    name: str, port: int, deadline: float, now: Callable[[], float] = time.monotonic, ahead: Ahead | None = None
) -> Wire:
    """A connection to the first of the name's addresses that takes one. Raises NotLoggedIn (resolve, connect)."""
    if ahead and (begun := ahead.take(name, port)):
        return Wire(begun, now)
    start = now()
    addresses = resolve(name, port, deadline - start)
    cause = "no answer"
    for left, (family, address) in zip(range(len(addresses), 0, -1), addresses, strict=True):
        sock: socket.socket | None = None
        try:
            sock = socket.socket(family, socket.SOCK_STREAM)
            sock.settimeout(max(0.001, (deadline - now()) / left))
            sock.connect(address)
            return Wire(sock, now)
        except OSError as error:
            if sock:
                sock.close()
            cause = _cause(error, deadline - start)
    raise NotLoggedIn("unreachable", f"{name} port {port}: {cause}", stage="connect")


def _cause(error: OSError, within: float) -> str:
    if isinstance(error, TimeoutError) and error.errno is None:
        return f"no answer within {round(within, 1):g}s"
    return _CAUSES.get(error.errno or 0) or (os.strerror(error.errno) if error.errno else str(error))
