"""What an error is to an HTTP client: status, body, headers. The class names are the original Backbeat's where it had one."""

from __future__ import annotations

import math
from typing import Any

from engine.errors import (
    Ambiguous,
    BadRequest,
    Conflict,
    EngineError,
    InvalidTransition,
    KeyReused,
    NotFound,
    StoreDown,
    StoreTooOld,
    TooLarge,
    UnknownStatus,
    WorkflowComplete,
)


class Unauthorized(EngineError):
    """No client, an unknown one, or not its token. Which of them is nobody's business."""

    code = "unauthorized"

    def __init__(self) -> None:
        super().__init__("Unauthorized")


class TooOften(EngineError):
    """More requests than a client may make; `seconds` until the next is welcome."""

    code = "too-often"

    def __init__(self, seconds: float) -> None:
        super().__init__("Too many requests of this client; try again later")
        self.seconds = seconds


class Busy(EngineError):
    """This process cannot answer now, or could not in time."""

    code = "busy"


class TooSlow(EngineError):
    """The client did not send its request in time."""

    code = "too-slow"


# The first that fits wins.
STATUSES: tuple[tuple[type[EngineError], int, str], ...] = (
    (Unauthorized, 401, "Backbeat::Unauthorized"),
    (NotFound, 404, "ActiveRecord::RecordNotFound"),
    (UnknownStatus, 400, "Backbeat::UnknownStatus"),
    (WorkflowComplete, 400, "Backbeat::WorkflowComplete"),
    (BadRequest, 400, "Backbeat::InvalidParameters"),
    (Ambiguous, 400, "Backbeat::InvalidParameters"),
    (InvalidTransition, 409, "Backbeat::Invalid{machine}StatusChange"),
    (Conflict, 409, "Backbeat::StaleStatusChange"),
    (KeyReused, 422, "Backbeat::IdempotencyKeyReused"),
    (TooLarge, 413, "Backbeat::PayloadTooLarge"),
    (TooSlow, 408, "Backbeat::RequestTimeout"),
    (TooOften, 429, "Backbeat::TooManyRequests"),
    (Busy, 503, "Backbeat::Unavailable"),
    (StoreDown, 503, "Backbeat::StoreDown"),
    (StoreTooOld, 503, "Backbeat::StoreTooOld"),
    (EngineError, 500, "Backbeat::Error"),
)

Headers = tuple[tuple[bytes, bytes], ...]


def answer(error: EngineError) -> tuple[int, dict[str, Any], Headers]:
    """Status, JSON body and further headers of the answer to a request that failed with `error`."""
    status, name = next((status, name) for kind, status, name in STATUSES if isinstance(error, kind))
    if status == 401:
        return status, {"error": "Unauthorized"}, ((b"www-authenticate", b'Token realm="Backbeat"'),)
    body: dict[str, Any] = {"errorClass": name, "message": error.message}
    if isinstance(error, InvalidTransition):
        body["errorClass"] = name.format(machine=error.machine.capitalize())
    if isinstance(error, InvalidTransition | Conflict):
        body["currentStatus"], body["attemptedStatus"] = error.current, error.attempted
    if status in (429, 503):
        seconds = math.ceil(error.seconds) if isinstance(error, TooOften) else 1
        return status, body, ((b"retry-after", b"%d" % seconds),)
    return status, body, ()
