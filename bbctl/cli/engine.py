"""The engine for one command: which stores, opened, its errors turned into ours, closed again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from bbctl.errors import BbctlError, ConfigError, Failed, StoreDown, UsageError
from engine import errors
from engine.settings import Settings

if TYPE_CHECKING:
    from bbctl.cli.front import Call
    from engine.runtime import Runtime

# The engine's error -> ours, whose exit code it takes over. The first that fits.
MEANING: tuple[tuple[type[errors.EngineError], type[BbctlError]], ...] = (
    (errors.StoreDown, StoreDown),
    (errors.StoreTooOld, StoreDown),
    (errors.NotFound, UsageError),
    (errors.Ambiguous, UsageError),
    (errors.BadRequest, UsageError),
    (errors.KeyReused, UsageError),
    (errors.TooLarge, UsageError),
    (errors.EngineError, Failed),
)


def engine_settings(call: Call) -> Settings:
    """Where the stores are. With none named the embedded ones are started if need be, which is said once on stderr."""
    named = call.settings.stores()
    if named.mongo:
        return Settings(mongo_url=named.mongo, redis_url=named.redis)
    if named.redis:
        raise ConfigError(
            "a Redis is named and no MongoDB: workflows live in MongoDB", next="export BBCTL_MONGO_URL=mongodb://…"
        )
    from bbctl.stores import ensure_stores

    home = call.settings.home()
    call.say(f"no store is named: using the embedded MongoDB and Redis of {home}")
    urls = ensure_stores(home, say=call.say)
    return Settings(mongo_url=urls.mongo, redis_url=urls.redis)


@contextmanager
def runtime(call: Call, *, handlers: Any = None) -> Iterator[Runtime]:
    """The open engine of this command. Whatever it raises comes out as a BbctlError with its exit code."""
    from engine.runtime import open_runtime

    with translated():
        opened = open_runtime(engine_settings(call), handlers=handlers)
        try:
            yield opened
        finally:
            opened.close()


@contextmanager
def translated() -> Iterator[None]:
    """The engine's errors as ours."""
    try:
        yield
    except errors.EngineError as error:
        ours = next(to for kind, to in MEANING if isinstance(error, kind))
        raise ours(error.message, code=error.code, next=error.next) from error
