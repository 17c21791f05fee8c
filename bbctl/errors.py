"""Every error a user can meet, in one tree, and the exit codes.

An error says what happened, to what, and what to type next. It is raised where it is known, caught where something
can be done about it, and otherwise turned into an exit code in one place: `bbctl.cli.app`.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Any

EXITS: dict[int, str] = {
    0: "done; healthy",
    1: "it ran, and something failed or is not healthy",
    2: "usage or configuration error",
    3: "refused for safety",
    4: "a store or every target could not be reached",
    130: "interrupted by Ctrl-C",
    143: "interrupted by SIGTERM",
    129: "interrupted by SIGHUP",
}


class BbctlError(Exception):
    """`message` is the cause first, in one line; `next` is a command to type; `code` is a stable word (`bbctl explain CODE`).

    `result` is what the command would have printed with `-o json` where the targets were already resolved: then it is
    printed in place of the bare error object.
    """

    exit = 1
    code = "failed"

    def __init__(
        self,
        message: str,
        *,
        next: str | None = None,
        code: str | None = None,
        result: Any = None,
        exit: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.next = next
        self.result = result
        if code is not None:
            self.code = code
        if exit is not None:
            self.exit = exit

    def as_json(self) -> Mapping[str, Any]:
        return {"code": self.code, "message": self.message, "next": self.next}


class Failed(BbctlError):
    """It ran, and something failed (exit 1)."""


class UsageError(BbctlError):
    """What was typed cannot be meant (exit 2): unknown host, id, flag, word."""

    exit = 2
    code = "usage"


class ConfigError(BbctlError):
    """A file is wrong (exit 2). The message begins with `file:line`, says what was expected and the nearest valid key. Where
    nothing better is known, `next` opens the file there."""

    exit = 2
    code = "config"

    def __init__(self, message: str, *, next: str | None = None, code: str | None = None, result: Any = None) -> None:
        super().__init__(message, next=next or _opened(message), code=code, result=result)


def _opened(message: str) -> str:
    """The command that opens a file at the line that an error names; the settings, where it names none."""
    found = re.match(r"(.+?):(\d+): ", message)
    return f"vi +{found[2]} {shlex.quote(found[1])}" if found else "bbctl config show"


class Refused(BbctlError):
    """Refused for safety (exit 3): lock held, capacity, host key, not confirmed. Nothing was changed."""

    exit = 3
    code = "refused"


class NotConfirmed(Refused):
    code = "not-confirmed"


class Unreached(BbctlError):
    """A store or every target could not be reached (exit 4)."""

    exit = 4
    code = "unreachable"


class StoreDown(Unreached):
    code = "store-down"


class Interrupted(BbctlError):
    """Ctrl-C, SIGTERM or SIGHUP (exit 128 + signal). State on disk is true and `resume` works."""

    code = "interrupted"

    def __init__(self, message: str, *, signal: int = 2, next: str | None = None, result: Any = None) -> None:
        super().__init__(message, next=next, result=result, exit=128 + signal)
