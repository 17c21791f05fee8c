"""Everything that can go wrong in the engine, in one tree. The doors translate: HTTP to statuses, the CLI to exit codes.

`code` is a stable word, `message` the cause in one line, `next` what to do about it (a command, or None).
"""

from __future__ import annotations

from collections.abc import Sequence


class EngineError(Exception):
    code = "engine"
    next: str | None = None

    def __init__(self, message: str, *, next: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        if next is not None:
            self.next = next


class NotFound(EngineError):
    """No such thing, or not yours: the same answer for both. `what` is Workflow, Node or User; `id` as asked for, of
    which a long one is not said again whole."""

    code = "not-found"

    def __init__(self, what: str, id: str) -> None:
        super().__init__(f"Couldn't find {what} with 'id'={id if len(id) <= 200 else id[:199] + '…'}")
        self.what = what
        self.id = id


class Ambiguous(EngineError):
    """A short id or a `KEY=VALUE` that fits several; `ids` are the first of them."""

    code = "ambiguous"

    def __init__(self, asked: str, ids: Sequence[str]) -> None:
        super().__init__(f"{asked} fits several: {', '.join(ids)}")
        self.ids = tuple(ids)


class BadRequest(EngineError):
    """What was sent cannot be meant. `field` names the parameter."""

    code = "bad-request"

    def __init__(self, field: str, message: str, *, next: str | None = None) -> None:
        super().__init__(message, next=next)
        self.field = field


class UnknownStatus(BadRequest):
    code = "unknown-status"

    def __init__(self, word: str) -> None:
        super().__init__("status", f"Unknown status change {word}")
        self.word = word


class WorkflowComplete(EngineError):
    """A signal on a workflow that was declared complete."""

    code = "workflow-complete"

    def __init__(self, workflow: str) -> None:
        super().__init__("Workflow is complete")
        self.workflow = workflow


class InvalidTransition(EngineError):
    """A status change that the table of `machine` ("client" or "server") does not allow. Nothing was changed."""

    code = "invalid-transition"

    def __init__(self, machine: str, current: str, attempted: str) -> None:
        super().__init__(f"Cannot transition current_{machine}_status from {current} to {attempted}")
        self.machine = machine
        self.current = current
        self.attempted = attempted


class Conflict(EngineError):
    """The request does not fit what has become of the node: an old attempt, a finished parent. Nothing was changed.

    `current`: the node's status that is in the way; `attempted`: the one that was wanted, None if it was none.
    """

    code = "conflict"

    def __init__(
        self, message: str, *, current: str | None = None, attempted: str | None = None, next: str | None = None
    ) -> None:
        super().__init__(message, next=next)
        self.current = current
        self.attempted = attempted


class KeyReused(EngineError):
    """An idempotency key that was used before with another body."""

    code = "key-reused"


class TooLarge(EngineError):
    """More than one document of the store can hold."""

    code = "too-large"


class StoreDown(EngineError):
    """The database cannot take (or confirm) what was asked within its deadline. `outage` is the same for one outage, whichever
    call met it, and when."""

    outage: str | None = None
    code = "store-down"
    next = "bbctl stores status"


class StoreTooOld(EngineError):
    """A server the engine cannot work on: too old (TokuMX, MongoDB before 6.0) or not a replica set."""

    code = "store-too-old"
    next = "bbctl explain store-too-old"
