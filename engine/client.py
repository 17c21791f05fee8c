"""HTTP to a client's endpoints, and the only user of urllib3: one POST at a time, under a deadline that holds.

No redirects, no proxies, TLS verified, the answer cut at a megabyte. Link-local addresses (where machines keep their
metadata) are refused after connecting and before a byte is sent, whatever name led there.
"""

from __future__ import annotations

import contextlib
import ipaddress
import itertools
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException
from urllib.parse import urlsplit

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError
from urllib3.response import BaseHTTPResponse

from engine.errors import BadRequest

IDLE = 2.0
"""Seconds an idle connection is kept: few servers close one so soon, and a POST on a closed one cannot be repeated."""
METADATA = frozenset(map(ipaddress.ip_address, ("fd00:ec2::254", "100.100.100.200")))


@dataclass(frozen=True)
class Answer:
    """`status` None: there was none, and `error` says why. `late`: sent, but not answered within the deadline."""

    status: int | None
    error: str | None = None
    late: bool = False

    @property
    def ok(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


def check_endpoint(field: str, url: str) -> str:
    """The URL, if a client may have it; BadRequest otherwise."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise BadRequest(field, f"{url} is no URL") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise BadRequest(field, f"{url} is no http or https URL")
    if parts.username or parts.password:
        raise BadRequest(field, "an endpoint must not hold credentials")
    with contextlib.suppress(ValueError):
        if _forbidden(ipaddress.ip_address(parts.hostname)):
            raise BadRequest(field, f"{parts.hostname} is link-local: no client lives there")
    return url


def _forbidden(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    mapped = getattr(address, "ipv4_mapped", None)
    address = mapped or address
    return address.is_link_local or address.is_multicast or address.is_unspecified or address in METADATA


class _Watch:
    """Shuts the sockets of calls whose time is up: a server that sends a byte a second resets every other timeout."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: dict[int, tuple[float, HTTPConnection]] = {}
        self._fired: set[int] = set()
        self._numbers = itertools.count()
        self._thread: threading.Thread | None = None

    def begin(self, deadline: float, connection: HTTPConnection) -> int:
        with self._lock:
            number = next(self._numbers)
            self._calls[number] = (deadline, connection)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="post-deadlines", daemon=True)
                self._thread.start()
            return number

    def end(self, number: int) -> bool:
        """Whether time ran out."""
        with self._lock:
            self._calls.pop(number, None)
            fired = number in self._fired
            self._fired.discard(number)
            return fired

    def _run(self) -> None:
        while True:
            time.sleep(0.1)
            now = time.monotonic()
            with self._lock:
                late = [(number, connection) for number, (at, connection) in self._calls.items() if at <= now]
                for number, connection in late:
                    del self._calls[number]
                    self._fired.add(number)
                    if connection.sock is not None:
                        with contextlib.suppress(OSError):
                            connection.sock.shutdown(socket.SHUT_RDWR)


class Poster:
    """Safe for threads."""

    def __init__(self, *, connect_timeout: float, max_answer: int) -> None:
        self._connect_timeout = connect_timeout
        self._max_answer = max_answer
        self._lock = threading.Lock()
        self._idle: dict[tuple[str, str, int], list[tuple[float, HTTPConnection]]] = {}
        self._watch = _Watch()
        self._tls: ssl.SSLContext | None = None

    def post(self, url: str, body: bytes, headers: Mapping[str, str], *, timeout: float) -> Answer:
        """Never raises. `timeout` (seconds) bounds the whole call."""
        parts = urlsplit(url)
        where = (parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))
        deadline = time.monotonic() + timeout
        connection = self._take(where) or self._new(where)
        watched = self._watch.begin(deadline, connection)
        sent = False
        try:
            if connection.sock is None:
                connection.connect()
                connection.timeout = timeout
                self._check_peer(connection)
            sent = True
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            connection.request("POST", target, body=body, headers=headers, preload_content=False)
            answer = connection.getresponse()
            whole = self._read(answer)
        except (HTTPError, HTTPException, OSError, ValueError) as error:
            late = self._watch.end(watched)
            connection.close()
            if late or isinstance(error, TimeoutError):
                return Answer(None, f"no answer within {timeout:g} s", late=sent)
            return Answer(None, _brief(error))
        late = self._watch.end(watched)
        if late:
            connection.close()
            return Answer(None, f"no answer within {timeout:g} s", late=True)
        if whole:
            self._give(where, connection)
        else:
            connection.close()
        return Answer(answer.status)

    def _new(self, where: tuple[str, str, int]) -> HTTPConnection:
        scheme, host, port = where
        if scheme == "https":
            if self._tls is None:
                self._tls = ssl.create_default_context()
            return HTTPSConnection(host, port, timeout=self._connect_timeout, ssl_context=self._tls)
        return HTTPConnection(host, port, timeout=self._connect_timeout)

    def _take(self, where: tuple[str, str, int]) -> HTTPConnection | None:
        with self._lock:
            idle = self._idle.get(where, [])
            while idle:
                since, connection = idle.pop()
                if time.monotonic() - since < IDLE and connection.is_connected:
                    return connection
                connection.close()
        return None

    def _give(self, where: tuple[str, str, int], connection: HTTPConnection) -> None:
        if connection.sock is None:
            return
        with self._lock:
            self._idle.setdefault(where, []).append((time.monotonic(), connection))

    def close(self) -> None:
        with self._lock:
            for idle in self._idle.values():
                for _, connection in idle:
                    connection.close()
            self._idle.clear()

    @staticmethod
    def _check_peer(connection: HTTPConnection) -> None:
        address = connection.sock.getpeername()[0].partition("%")[0]
        if _forbidden(ipaddress.ip_address(address)):
            raise OSError(f"{address} is link-local: refused")

    def _read(self, answer: BaseHTTPResponse) -> bool:
        """Whether the answer was read to its end, so that the connection can serve again."""
        left = self._max_answer
        while left > 0:
            piece = answer.read(min(left, 65536), decode_content=False)
            if not piece:
                return True
            left -= len(piece)
        return False


def _brief(error: Exception) -> str:
    line = str(error).splitlines()[0] if str(error) else type(error).__name__
    return line[:200]
