"""The hang rule, pure: what a log said, and when, makes a living process hung or not. One rule for every command.

The process lives; of its log lines the last that matches `started`, `stopped` or `hang.after` matches `hang.after`; and
since then the log has been silent for `hang.within`, or `stop_timeout` has passed. Its lines are those dated after its
start, or, where no date can be read, those seen written by this command.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from bbctl.model import Service
from bbctl.remote.logs import Line

Word = Literal["started", "stopped", "stopping"]
SLACK = 0.05  # seconds: how exactly a process's start is known (ticks are hundredths, the clock may be slewed)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """`word`: the last thing the log said about the process's life, None for nothing. `since`: when it was said (seconds,
    the host's clock; for a line without a date, when it was seen). `left`: seconds until it counts as hung, if it will."""

    hung: bool
    word: Word | None = None
    line: str | None = None
    since: float | None = None
    left: float | None = None


NOTHING = Verdict(hung=False)


def judge(
    lines: Sequence[Line], *, service: Service, started: float, now: float, seen_from: int | None = None,
    seen_at: float | None = None, touched: float | None = None,
) -> Verdict:  # fmt: skip
    """The verdict on a living process. Times by the host's clock, in seconds.

    `started`: the process's start. `seen_from`: the offset in the log from which lines were written under the eyes of this
    command, the first look at `seen_at`; `touched`: when the log was last written to, for lines without a date.
    """
    word, at, line = last_word(lines, service=service, started=started, seen_from=seen_from)
    if word is None or line is None:
        return NOTHING
    said = line.latest if line.latest is not None else seen_at
    if word != "stopping" or service.hang is None or said is None:
        return Verdict(hung=False, word=word, line=line.text, since=said)
    last = max((x.latest for x in lines[at:] if x.latest is not None), default=None)
    quiet_since = last if last is not None else max(said, touched or said)
    left = min(quiet_since + service.hang.within, said + service.stop_timeout) - now
    return Verdict(hung=left <= 0, word=word, line=line.text, since=said, left=max(0.0, left))


def last_word(
    lines: Sequence[Line], *, service: Service, started: float, seen_from: int | None = None
) -> tuple[Word | None, int, Line | None]:
    """The last line of the process that says it has started, has stopped, or is stopping; its kind and its place."""
    texts: tuple[tuple[Word, str | None], ...] = (
        ("stopping", service.hang.after if service.hang else None),
        ("stopped", service.stopped),
        ("started", service.started),
    )
    patterns = [(word, re.compile(text, re.IGNORECASE)) for word, text in texts if text]
    for at in range(len(lines) - 1, -1, -1):
        line = lines[at]
        if not _may_be_its_own(line, started, seen_from):
            continue  # lines of an older date may well stand behind: copied there, or of another clock
        for word, pattern in patterns:
            if pattern.search(line.text):
                if word == "stopping" and line.earliest is not None and line.earliest < started - SLACK:
                    return None, at, None  # it may be the word of the process before: not enough to call this one hung
                return word, at, line
    return None, -1, None


def _may_be_its_own(line: Line, started: float, seen_from: int | None) -> bool:
    if line.latest is None:
        return seen_from is not None and line.offset >= seen_from
    return line.latest >= started - SLACK
