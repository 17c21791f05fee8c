"""One act in the audit: a line before it, one after it, whatever came of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from bbctl import audit
from bbctl.cli.front import Call
from bbctl.errors import BbctlError


@contextmanager
def act(call: Call, *, targets: Mapping[str, Any], reason: str) -> Iterator[dict[str, Any]]:
    """Yields what becomes the result's details; an error is the result, and goes on up."""
    home = call.settings.home()
    entry = {
        "operator": call.settings.operator(), "act": call.command, "argv": audit.masked(call.words),
        "targets": dict(targets), "reason": reason,
    }  # fmt: skip
    audit.append(home, {**entry, "decision": "intent"})
    outcome: dict[str, Any] = {}
    try:
        yield outcome
    except BaseException as error:
        said = error.message if isinstance(error, BbctlError) else getattr(error, "message", type(error).__name__)
        audit.after(home, {**entry, "decision": "result", "result": "failed", "error": said, **outcome})
        raise
    if lost := audit.after(home, {**entry, "decision": "result", "result": "done", **outcome}):
        call.say(f"the result is not in the audit: {lost}")
