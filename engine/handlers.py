"""The engine inside a Python programme: activities are functions, run by `bbctl work --import MODULE`.

    from engine.handlers import activity, register

    @activity(retries=3)
    def invoice(number: int) -> None:
        register(charge, number)                 # in order, each after the one before
        register(mail, number, mode="fire_and_forget")

    @activity
    def charge(number: int) -> str: ...

    with open_program(mongo_url, redis_url, client="invoicing") as program:
        program.signal("billing", {"invoice": 4711}, invoice, 4711)

What a handler registers and what it returns are kept in one write: all of it or nothing. It runs at least once; its
`task().key` stays the same while one attempt is repeated, so hand it to whatever must happen once only.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, ParamSpec, TypeVar, overload

from engine import build, workflows
from engine.errors import BadRequest, NotFound
from engine.model import ClientRecord, NewNode, NewWorkflow, Node
from engine.registry import DEFAULT, Handler, Registry
from engine.retry import DEFAULT_INTERVAL, DEFAULT_RETRIES
from engine.runtime import Runtime, open_runtime
from engine.settings import Settings
from engine.task import Task, current, kept

P = ParamSpec("P")
R = TypeVar("R")
Mode = Literal["blocking", "non_blocking", "fire_and_forget"]


@overload
def activity(name: Callable[P, R]) -> Callable[P, R]: ...
@overload
def activity(
    name: str | None = None,
    *,
    retries: int = DEFAULT_RETRIES,
    retry_interval: int = DEFAULT_INTERVAL,
    timeout: float = 300.0,
    rescue: Callable[..., Any] | None = None,
    slow: bool = False,
    later: bool = False,
    registry: Registry = DEFAULT,
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
def activity(
    name: Any = None,
    *,
    retries: int = DEFAULT_RETRIES,
    retry_interval: int = DEFAULT_INTERVAL,
    timeout: float = 300.0,
    rescue: Callable[..., Any] | None = None,
    slow: bool = False,
    later: bool = False,
    registry: Registry = DEFAULT,
) -> Any:
    """Makes a function an activity, named after itself unless `name` says otherwise. It can still be called as it is.

    `retries` and `retry_interval` (seconds) as in Backbeat. `timeout` (seconds): one that runs longer is taken for hung,
    and another worker may run it. `rescue(error)` is called when no retry is left; it may `resolve()` or `shut_down()`.
    `slow` ones (the others too, once they were seen to be) run in a thread. `later`: returning does not complete it,
    `Program.complete` does, from anywhere. TypeError: an async function. ValueError: two functions of one name.
    """

    def keep(run: Callable[P, R]) -> Callable[P, R]:
        called = name if isinstance(name, str) else run.__name__
        if inspect.iscoroutinefunction(run) or inspect.isasyncgenfunction(run):
            raise TypeError(f"{called} is async: an activity is a plain function, which may call asyncio.run")
        registry.add(
            Handler(
                name=called,
                run=run,
                retries=retries,
                retry_interval=retry_interval,
                timeout=timeout,
                rescue=rescue,
                slow=slow,
                later=later,
            )
        )
        return run

    return keep(name) if callable(name) else keep


def task() -> Task:
    """The activity that runs now. LookupError outside of one, also in a thread that one has begun."""
    try:
        return current.get()
    except LookupError:
        raise LookupError(
            "no activity runs here: task() and register() are for the thread that it is called in"
        ) from None


def register(
    run: Callable[..., Any] | str,
    *args: Any,
    mode: Mode = "blocking",
    at: datetime | None = None,
    client: str | None = None,
    registry: Registry = DEFAULT,
    **kwargs: Any,
) -> None:
    """Registers a child of the activity that runs now: a function, or the name of an activity of another client.

    `at`: not before (with a time zone). `client`: another client, by its name or id. Positional or keyword arguments, any
    JSON, not both. BadRequest, ValueError, TypeError: what cannot be meant, or is no JSON.
    """
    task().children.append(_new(registry.of(run), args, kwargs, mode=mode, at=at, client=client))


def _new(
    handler: Handler,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    mode: Mode = "blocking",
    at: datetime | None = None,
    client: str | None = None,
) -> NewNode:
    if args and kwargs:
        raise BadRequest("params", "positional or keyword arguments, not both")
    if at is not None and at.tzinfo is None:
        raise BadRequest("at", "a time needs its zone")
    data = {"name": handler.name, "params": list(args) if args else kwargs}
    kept(data, f"what {handler.name} is given")
    new = NewNode(
        name=handler.name,
        mode=mode,
        data=data,
        fires_at=None if at is None else int(at.timestamp() * 1000),
        retry=handler.retries,
        retry_interval=handler.retry_interval,
        client=client,
    )
    return build.validated(new)


@dataclass(frozen=True)
class Program:
    """A Python programme as a client of the engine: `client` has no endpoints, its handlers live in the workers."""

    rt: Runtime
    client: ClientRecord

    def signal(
        self,
        workflow: str,
        subject: Any,
        run: Callable[..., Any] | str,
        *args: Any,
        key: str | None = None,
        **kwargs: Any,
    ) -> tuple[Node, Node]:
        """Signals the workflow (name, subject), which is created if need be; (workflow, signal). The same `key` twice is one."""
        new = _new(self.rt.handlers.of(run), args, kwargs)
        kept(subject, "the subject")
        wanted = NewWorkflow(name=workflow, subject=subject, signal=new, key=key)
        return workflows.start_many(self.rt, self.client.id, [wanted])[0]

    def complete(self, node_id: str, result: Any = None) -> None:
        """Completes an activity that was left open (`later`)."""
        kept(result, "the result")
        workflows.change_status(self.rt, self.client.id, node_id, "completed", response={"result": result})

    def fail(self, node_id: str, message: str) -> None:
        workflows.change_status(self.rt, self.client.id, node_id, "errored", response={"error": {"message": message}})

    def resolve(self, node_id: str, result: Any = None) -> None:
        """Goes on as if an activity without retries had succeeded."""
        kept(result, "the result")
        workflows.change_status(self.rt, self.client.id, node_id, "resolved", response={"result": result})

    def shut_down(self, node_id: str) -> None:
        """Gives an activity without retries up, and what comes after it."""
        workflows.change_status(self.rt, self.client.id, node_id, "shutdown")


@contextmanager
def open_program(
    mongo_url: str, redis_url: str | None = None, *, client: str, registry: Registry = DEFAULT
) -> Iterator[Program]:
    """A connection for one client, which is made if it is not there yet. StoreDown, StoreTooOld."""
    rt = open_runtime(Settings(mongo_url=mongo_url, redis_url=redis_url), handlers=registry)
    try:
        yield Program(rt, _client(rt, client))
    finally:
        rt.close()


def _client(rt: Runtime, name: str) -> ClientRecord:
    try:
        return workflows.client_named(rt, name)
    except NotFound:
        pass
    try:
        return workflows.add_client(rt, name)[0]
    except BadRequest:  # another programme has just made it
        return workflows.client_named(rt, name)
