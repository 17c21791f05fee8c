"""The Python handlers that live in a worker's process, and how long they may run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from engine.retry import DEFAULT_INTERVAL, DEFAULT_RETRIES


@dataclass(frozen=True, kw_only=True)
class Handler:
    """`run` gets the arguments of the activity; `rescue` gets the error when no retry is left.

    `timeout` (seconds) bounds how long its claim is renewed. `slow` runs it in the pool, so that it holds up nobody.
    `later` leaves the activity open when it returns: it is completed by id, from anywhere.
    """

    name: str
    run: Callable[..., Any]
    retries: int = DEFAULT_RETRIES
    retry_interval: int = DEFAULT_INTERVAL
    timeout: float = 300.0
    rescue: Callable[..., Any] | None = None
    slow: bool = False
    later: bool = False


@dataclass
class Registry:
    """Handlers by activity name, and how long each takes of late: one slow run on a busy machine makes none slow for good."""

    handlers: dict[str, Handler] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def add(self, handler: Handler) -> None:
        if handler.name in self.handlers and self.handlers[handler.name].run != handler.run:
            raise ValueError(f"two handlers are named {handler.name}")
        self.handlers[handler.name] = handler

    def of(self, run: Callable[..., Any] | str) -> Handler:
        """The handler of a function, or by its name; LookupError if it was never registered."""
        if isinstance(run, str):
            return self.handlers[run] if run in self.handlers else Handler(name=run, run=_elsewhere)
        found = next((handler for handler in self.handlers.values() if handler.run == run), None)
        if found is None:
            raise LookupError(f"{getattr(run, '__name__', run)} is no activity: decorate it with @activity")
        return found

    def get(self, name: str) -> Handler | None:
        return self.handlers.get(name)

    def took(self, handler: Handler, seconds: float) -> None:
        self.seconds[handler.name] = 0.8 * self.seconds.get(handler.name, 0.0) + 0.2 * seconds

    def is_slow(self, handler: Handler, limit: float) -> bool:
        return handler.slow or handler.later or self.seconds.get(handler.name, 0.0) > limit


def _elsewhere(*args: Any, **kwargs: Any) -> Any:
    raise LookupError("this activity is run by another client")


DEFAULT = Registry()
"""Where the decorators of engine.handlers register; a worker runs these unless it is handed others."""
