"""Does anybody listen where a MongoDB URL points? Asked by plain connections, before its driver is loaded and patient."""

from __future__ import annotations

import errno
import os
import selectors
import socket
import threading
import time
from collections.abc import Sequence

PORT = 27017
TIMED_OUT = "timed out"

Place = tuple[str, int]


def nobody(url: str, *, within: float) -> str | None:
    """Why nobody does, as a sentence; None as soon as one of the servers accepts a connection, or where it cannot be told.
    It takes `within` seconds at most."""
    places = _places(url)
    if not places:
        return None
    end = time.monotonic() + within
    found = {place: _addresses(place, end) for place in places}
    wrong = _knock(found, end)
    if wrong is None:
        return None
    said = ",".join(f"{host}:{port}: {wrong.get((host, port), TIMED_OUT)}" for host, port in places)
    return f"MongoDB cannot be reached: {said}"


def _places(url: str) -> list[Place]:
    """The servers that a URL names; none where it names them otherwise than by host and port."""
    scheme, _, rest = url.partition("://")
    hosts = rest.partition("?")[0].partition("/")[0].rpartition("@")[2].split(",")
    if scheme != "mongodb" or any("%" in host for host in hosts):
        return []
    found = []
    for one in hosts:
        host, _, port = one.rpartition(":") if one.rpartition("]")[2].count(":") == 1 else (one, "", str(PORT))
        if not port.isdigit():
            return []
        found.append((host.strip("[]"), int(port)))
    return found


def _addresses(place: Place, end: float) -> list[tuple[int, Place]]:
    """Family and address of a server; none where its name is not known by `end`: a resolver may be silent for long."""
    found: list[tuple[int, Place]] = []

    def resolve(flags: int) -> None:
        for family, _, _, _, address in socket.getaddrinfo(*place, type=socket.SOCK_STREAM, flags=flags):
            found.append((family, (str(address[0]), int(address[1]))))

    def ask() -> None:
        try:
            resolve(0)
        except OSError:
            return

    try:
        resolve(socket.AI_NUMERICHOST)
    except OSError:
        asked = threading.Thread(target=ask, daemon=True, name="resolve")
        asked.start()
        asked.join(max(0.0, end - time.monotonic()))
    return list(found)


def _knock(found: dict[Place, list[tuple[int, Place]]], end: float) -> dict[Place, str] | None:
    """What is wrong with each server; None once any accepts."""
    wrong = {place: "its name is not known" for place, addresses in found.items() if not addresses}
    with selectors.DefaultSelector() as waiting:
        made: list[socket.socket] = []
        try:
            for place, addresses in found.items():
                for family, address in addresses:
                    try:
                        one = socket.socket(family, socket.SOCK_STREAM)
                    except OSError as error:  # no such protocol here
                        wrong[place] = _said(error.errno or 0)
                        continue
                    made.append(one)
                    one.setblocking(False)
                    begun = one.connect_ex(address)
                    if begun not in (0, errno.EINPROGRESS):
                        wrong[place] = _said(begun)
                    else:
                        waiting.register(one, selectors.EVENT_WRITE, place)
            return _first(waiting, wrong, end)
        finally:
            _close(made)


def _first(waiting: selectors.BaseSelector, wrong: dict[Place, str], end: float) -> dict[Place, str] | None:
    while waiting.get_map():
        ready = waiting.select(max(0.0, end - time.monotonic()))
        if not ready:
            break
        for key, _ in ready:
            one: socket.socket = key.fileobj  # type: ignore[assignment]
            failed = one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if not failed:
                return None
            wrong[key.data] = _said(failed)
            waiting.unregister(one)
    return wrong


def _said(number: int) -> str:
    return f"[Errno {number}] {os.strerror(number)}"


def _close(sockets: Sequence[socket.socket]) -> None:
    for one in sockets:
        one.close()
