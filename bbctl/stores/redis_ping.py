"""Does a Redis answer? A few bytes over a plain socket, so that a look needs no client library."""

from __future__ import annotations

import re
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

STRANGER = ("-WRONGPASS", "-NOAUTH")


class Refused(Exception):
    """It answered, and not what we asked for."""


@dataclass(frozen=True, kw_only=True)
class RedisAnswer:
    """`error` is None where it answered; `refused`: it answered that we may not. `info` holds the lines of INFO."""

    error: str | None
    seconds: float
    info: Mapping[str, str]
    refused: bool = False


def ask(url: str, *, within: float) -> RedisAnswer:
    """PING and INFO of the Redis named by `url`. Never raises; no password is in `error`."""
    started = time.monotonic()
    try:
        with _connect(url, within) as link:
            parts = urlsplit(url)
            if parts.password:
                _call(link, "AUTH", *([unquote(parts.username)] if parts.username else []), unquote(parts.password))
            _call(link, "PING")
            info = _info(link)
    except Refused as error:
        return RedisAnswer(error=str(error), seconds=time.monotonic() - started, info={}, refused=True)
    except (OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return RedisAnswer(error=str(said), seconds=time.monotonic() - started, info={})
    found = dict(re.findall(r"^(\w+):(.*?)\r?$", info, re.MULTILINE))
    return RedisAnswer(error=None, seconds=time.monotonic() - started, info=found)


def _connect(url: str, within: float) -> socket.socket:
    parts = urlsplit(url)
    if parts.scheme == "unix":
        link = socket.socket(socket.AF_UNIX)
        link.settimeout(within)
        link.connect(parts.path)
        return link
    host = parts.hostname or "localhost"
    link = socket.create_connection((host, parts.port or 6379), timeout=within)
    return ssl.create_default_context().wrap_socket(link, server_hostname=host) if parts.scheme == "rediss" else link


def _info(link: socket.socket) -> str:
    """What it says of itself; nothing where our user may do no more than the engine needs."""
    try:
        return _call(link, "INFO")
    except Refused as error:
        if str(error).startswith("NOPERM"):
            return ""
        raise


def _call(link: socket.socket, *words: str) -> str:
    """One command; its reply as text. Refused holds the server's own complaint."""
    raw = [word.encode() for word in words]
    link.sendall(b"*%d\r\n" % len(raw) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in raw))
    with link.makefile("rb") as answer:
        head = answer.readline(1024).decode("utf-8", "replace").rstrip("\r\n")
        if not head:
            raise ValueError("it closed the connection")
        if head[0] == "-":
            raise Refused("refuses our credentials" if head.startswith(STRANGER) else head[1:])
        return answer.read(int(head[1:]) + 2).decode("utf-8", "replace") if head[0] == "$" else head[1:]
