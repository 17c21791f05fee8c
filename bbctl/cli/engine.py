"""The engine for one command: which stores, opened, its errors turned into ours, closed again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from bbctl.cli.front import moment
from bbctl.errors import BbctlError, ConfigError, Failed, Interrupted, Refused, StoreDown, UsageError
from bbctl.near import nearest, shown
from engine import errors
from engine.settings import Settings

if TYPE_CHECKING:
    from bbctl.cli.front import Call
    from engine.model import ClientRecord, Node
    from engine.runtime import Runtime

RECENT = 500  # workflows whose ids are looked through for one like what was typed

# The engine's error -> ours, whose exit code it takes over. The first that fits.
MEANING: tuple[tuple[type[errors.EngineError], type[BbctlError]], ...] = (
    (errors.StoreDown, StoreDown),
    (errors.StoreTooOld, StoreDown),
    (errors.NotFound, UsageError),
    (errors.Ambiguous, UsageError),
    (errors.BadRequest, UsageError),
    (errors.KeyReused, UsageError),
    (errors.TooLarge, UsageError),
    (errors.InvalidTransition, Refused),
    (errors.Conflict, Refused),
    (errors.EngineError, Failed),
)


def engine_settings(call: Call) -> Settings:
    """Where the stores are. With none named the embedded ones are started if need be, which is said once on stderr."""
    known: Settings | None = vars(call).get("_stores")
    if known is None:
        known = vars(call)["_stores"] = _settings(call)
    return known


def _settings(call: Call) -> Settings:
    named = call.settings.stores()
    if named.mongo:
        return Settings(mongo_url=named.mongo, redis_url=named.redis)
    if named.redis:
        raise ConfigError(
            "a Redis is named and no MongoDB: workflows live in MongoDB", next="export BBCTL_MONGO_URL=mongodb://…"
        )
    from bbctl.stores.embedded import ensure_stores, look_after

    home = call.settings.home()
    call.say(f"no store is named: using the embedded MongoDB and Redis of {home}")
    urls = ensure_stores(home, say=lambda text: None)  # that it starts them is no second line
    look_after(home)
    return Settings(mongo_url=urls.mongo, redis_url=urls.redis)


@contextmanager
def runtime(call: Call, *, handlers: Any = None, lasting: bool = False) -> Iterator[Runtime]:
    """The open engine of this command. Whatever it raises comes out as a BbctlError with its exit code. `lasting`: the
    command goes on whatever becomes of the stores, so nobody sits and waits for it.
    """
    from bbctl.cli.patience import while_electing
    from engine.mongo import RIDE
    from engine.runtime import open_runtime

    with translated():
        opened = open_runtime(engine_settings(call), handlers=handlers)
        try:
            with nullcontext() if lasting else while_electing(call, opened.store.election, RIDE):
                yield opened
        finally:
            opened.close()


def say_troubles(call: Call, rt: Runtime, without_mongo: str) -> None:
    """What is wrong with the stores of a command that runs on all the same: a line each, and what that means."""
    from engine.figures import store_troubles

    mongo, redis = store_troubles(rt, rt.settings.store_timeout)
    if mongo is not None:
        call.say(f"warning: {mongo}; {without_mongo}")
    if redis is not None:
        call.say(f"warning: {redis}; work goes on without it, up to a second later")


@contextmanager
def translated() -> Iterator[None]:
    """The engine's errors as ours."""
    try:
        yield
    except errors.EngineError as error:
        ours = next(to for kind, to in MEANING if isinstance(error, kind))
        raise ours(error.message, code=error.code, next=error.next) from error


def as_text(what: str, words: str | None) -> str | None:
    """Words that can be stored; UsageError for bytes that are no UTF-8."""
    try:
        (words or "").encode()
    except UnicodeEncodeError:
        raise UsageError(f"{what} {shown(words or '')} is not UTF-8") from None
    return words


def until_interrupted(look: Callable[[], int | None], every: float) -> int:
    """Look again and again; its exit code once it gives one, or the signal's, quietly: what was shown stays true."""
    try:
        while True:
            ended = look()
            if ended is not None:
                return ended
            time.sleep(every)
    except KeyboardInterrupt:
        return 130
    except Interrupted as ended_by:
        return ended_by.exit


def remember(call: Call, nodes: Iterable[Node]) -> None:
    """These have been shown: the Tab key offers them from now on."""
    from bbctl.cli.complete import remember_workflows

    remember_workflows(call.settings.home(), [n.tail or n.id[-8:] for n in nodes])


def find(rt: Runtime, asked: str) -> Node:
    """The workflow or node that a person means by an id, its beginning or end, or KEY=VALUE of a subject.

    UsageError: there is none (with near ones), or several (which are listed).
    """
    from engine import workflows

    words = asked if "=" in asked else asked.strip().lower()
    try:
        return workflows.resolve_id(rt, words)
    except errors.NotFound:
        raise _unknown(rt, asked) from None
    except errors.Ambiguous as several:
        found = rt.store.by_ids(several.ids).values()
        lines = [f"  {n.tail}  {n.name}  {n.subject or f'{n.ss}/{n.cs}'}"[:120] for n in found]
        raise UsageError(
            f"{shown(asked)} fits several:\n" + "\n".join(lines),
            code="ambiguous",
            next="say the whole id, or more of it",
        ) from None


def _unknown(rt: Runtime, asked: str) -> UsageError:
    from engine import workflows
    from engine.model import Search

    recent = workflows.list_workflows(rt, None, Search(per_page=RECENT))
    near = nearest(asked[-8:].lower(), [n.tail for n in recent])
    hint = f": did you mean {' or '.join(near)}?" if near else ""
    return UsageError(f"no workflow or node {shown(asked)}{hint}", code="not-found", next="bbctl wf list")


def client_for(rt: Runtime, named: str | None) -> ClientRecord:
    """The client that is meant: by name or id, or the only one. UsageError otherwise."""
    from engine import workflows

    known = workflows.list_clients(rt)
    if named is not None:
        found = [c for c in known if named in (c.name, c.id)]
        if found:
            return found[0]
        near = nearest(named, [c.name for c in known])
        hint = f": did you mean {' or '.join(near)}?" if near else ""
        raise UsageError(f"no client {shown(named)}{hint}", code="unknown-client", next="bbctl client list")
    if len(known) == 1:
        return known[0]
    if not known:
        raise UsageError("there is no client yet", code="no-client", next="bbctl client add NAME")
    names = ", ".join(c.name for c in known)
    raise UsageError(
        f"there are several clients: {names}", code="which-client", next="the same command with --client NAME"
    )


def when(option: str, text: str | None) -> int | None:
    """A point in time as ms."""
    return None if text is None else int(moment(text, option) * 1000)
