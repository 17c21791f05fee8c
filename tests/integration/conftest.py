"""Servers that the integration tests share, one of each a session; a database of its own for every test."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from tests.integration.servers import Mongo, Redis


@pytest.fixture(scope="session")
def mongo() -> Iterator[Mongo]:
    server = Mongo.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Redis]:
    server = Redis.start()
    yield server
    server.stop()


@pytest.fixture
def mongo_url(mongo: Mongo) -> str:
    return mongo.url("t" + uuid.uuid4().hex[:12])
