"""Named points around every external write, where a test cuts: kill, raise, or stop and think. Otherwise they do nothing.

`BBCTL_FAILPOINTS=name=kill9,name=raise,name=sleep:2` arms them in a process; a test in the same process sets `hook`.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable


class Cut(BaseException):
    """What an armed `raise` raises: a crash, for all that the code around it can tell."""


def _armed() -> dict[str, str]:
    pairs = (item.partition("=") for item in os.environ.get("BBCTL_FAILPOINTS", "").split(",") if item)
    return {name: action for name, _, action in pairs}


ARMED: dict[str, str] = _armed()
hook: Callable[[str], None] | None = None


def failpoint(name: str) -> None:
    here = hook  # which another thread may take away
    if here is not None:
        here(name)
    if ARMED:
        _act(ARMED.get(name, ""))


def _act(action: str) -> None:
    if action == "kill9":
        os.kill(os.getpid(), signal.SIGKILL)
    elif action == "raise":
        raise Cut
    elif action.startswith("sleep:"):
        time.sleep(float(action[6:]))
