"""Whether anybody listens where a MongoDB URL points, with real sockets."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from bbctl.stores.listening import nobody

LONG = 30.0  # nothing here takes that long: what is refused is so at once


@pytest.fixture
def open_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield int(server.getsockname()[1])


@pytest.fixture
def closed_port() -> Iterator[int]:
    with socket.socket() as taken:  # bound and not listening: nobody else gets it meanwhile
        taken.bind(("127.0.0.1", 0))
        yield int(taken.getsockname()[1])


def test_one_server_that_accepts_is_enough(open_port: int, closed_port: int) -> None:
    assert (
        nobody(f"mongodb://u:p%40@127.0.0.1:{closed_port},127.0.0.1:{open_port}/x?replicaSet=rs0", within=LONG) is None
    )
    assert nobody(f"mongodb://localhost:{open_port}", within=LONG) is None


def test_where_all_refuse_each_is_named_and_no_password(closed_port: int) -> None:
    said = nobody(f"mongodb://ann:hunter2@127.0.0.1:{closed_port},[::1]:{closed_port}/x", within=LONG)
    assert said is not None
    assert said.startswith(f"MongoDB cannot be reached: 127.0.0.1:{closed_port}: [Errno 111] Connection refused,::1:")
    assert "hunter2" not in said


def test_a_server_that_does_not_accept_in_time_is_named_as_that() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        others = [socket.socket() for _ in range(4)]
        for one in others:  # its queue is full: what comes now is neither taken nor refused
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        said = nobody(f"mongodb://127.0.0.1:{port}/x", within=0.2)
        for one in others:
            one.close()
    assert said == f"MongoDB cannot be reached: 127.0.0.1:{port}: timed out"


@pytest.mark.parametrize("url", ["mongodb+srv://h.example/x", "mongodb://%2Ftmp%2Fm.sock/x", "mongodb://h:port/x"])
def test_what_cannot_be_told_by_host_and_port_is_left_to_the_driver(url: str) -> None:
    assert nobody(url, within=LONG) is None
