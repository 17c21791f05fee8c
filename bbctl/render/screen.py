"""The screen: the one way to a console, colours by meaning, and text from outside made harmless.

Colour carries meaning only (red broken, amber in progress or late, green proven, dim for what is fine), and every
screen reads the same without it. Without a terminal nothing draws and lines are not cut.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

BAD, BUSY, GOOD, DIM = "red", "yellow", "green", "bright_black"
WIDE = 400  # columns without a terminal: nothing is cut or folded
NARROW = 20  # columns that are not worth a paragraph of their own

_inventory: ContextVar[str | None] = ContextVar("inventory", default=None)
_COMMAND = re.compile(r"\bbbctl (?=[a-z])(?!(?:lab|demo|explain|init|completion)\b)")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def safe(text: str) -> str:
    """Text from a host or a client with every control character (and text-direction trick) shown, not obeyed."""
    return _CONTROL.sub(lambda m: f"\\x{ord(m[0]):02x}" if ord(m[0]) < 256 else f"\\u{ord(m[0]):04x}", text)


def cut(text: str, most: int) -> str:
    """At most so many characters, and a mark where there were more."""
    return text if len(text) <= most else text[: most - 1] + "…"


def console(*, stderr: bool = False) -> Console:
    """A Rich console that honours NO_COLOR and takes text as it is: no markup, no emoji, no guessing of highlights."""
    from rich.console import Console

    class Loud(Console):
        def on_broken_pipe(self) -> None:
            raise  # Rich would exit with 1; a closed pipe is said in one place, whoever finds it

    stream = sys.stderr if stderr else sys.stdout
    tty = stream.isatty()
    return Loud(
        file=stream, markup=False, emoji=False, highlight=False, soft_wrap=not tty,
        width=None if tty else WIDE, no_color="NO_COLOR" in os.environ or None,
    )  # fmt: skip


def table(*columns: str) -> Table:
    """A borderless table: header dim, two blanks between columns, nothing cut without a terminal."""
    from rich.table import Table

    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style=DIM, show_edge=False)
    for column in columns:
        made.add_column(column, overflow="fold")
    return made


def draw(*things: Any) -> None:
    """Print Rich renderables or strings. A line with a command to type is left to the terminal to break: copied from there it
    is one line again."""
    where = console()
    for thing in things:
        command = "bbctl " in (thing if isinstance(thing, str) else getattr(thing, "plain", ""))
        where.print(_typed(thing), soft_wrap=True if command else None)


def noted(head: Sequence[str], rows: Sequence[tuple[Sequence[Text], Text]]) -> None:
    """A table whose rows have a remark each: beside them where all fit, else below, so that no name or id is ever broken."""
    from rich.text import Text

    lines = [[Text(word, DIM) for word in head], *(list(cells) for cells, _ in rows)]
    wide = [max(line[at].cell_len for line in lines) for at in range(len(head))]
    remarks = [Text(), *(remark for _, remark in rows)]
    where = console()
    room = where.width - sum(wide) - 2 * len(wide)
    below = not where.soft_wrap and any(remark.cell_len > room for remark in remarks)
    made = []
    for line, remark in zip(lines, remarks, strict=True):
        row = Text("  ").join([*(_padded(cell, width) for cell, width in zip(line, wide, strict=True)), Text()])
        if not below:
            row.append_text(remark)
        row.rstrip()
        made += [row, paragraph(Text("  "), remark)] if below and remark else [row]
    draw(*made)


def _padded(cell: Text, width: int) -> Text:
    padded = cell.copy()
    padded.pad_right(width - cell.cell_len)
    return padded


def paragraph(lead: Text, body: Text) -> Text:
    """A line; on a terminal that is too narrow for it what follows of `body` stands below its beginning. One with a command to
    type stays a line (`draw`)."""
    from rich.text import Text

    where, at = console(), lead.cell_len
    room = where.width - at
    if where.soft_wrap or body.cell_len <= room or room < NARROW or "bbctl " in body.plain:
        return lead.copy().append_text(body)
    return lead.copy().append_text(Text("\n" + " " * at).join(body.wrap(where, room)))


@contextmanager
def commands_for(inventory: str | None) -> Iterator[None]:
    """Within, every command that a drawn line says to type gets `-i inventory`, as the call that shows it had."""
    before = _inventory.set(inventory)
    try:
        yield
    finally:
        _inventory.reset(before)


def typed(text: str) -> str:
    """A text whose commands name the inventory in force (`commands_for`)."""
    return _COMMAND.sub(lambda found: f"{found[0]}{_said()}", text)


def _typed(thing: Any) -> Any:
    """The same for what is drawn; colours stay where they are."""
    if isinstance(thing, str):
        return typed(thing)
    plain = getattr(thing, "plain", None)
    if plain is None or not _said():
        return thing
    for found in reversed(list(_COMMAND.finditer(plain))):
        thing = thing[: found.end()].append(_said()).append(thing[found.end() :])
    return thing


def _said() -> str:
    inventory = _inventory.get()
    return f"-i {shlex.quote(inventory)} " if inventory else ""


def out(text: str, *, end: str = "\n") -> None:
    """A finished text to stdout."""
    _write(sys.stdout, text + end)


def err(text: str, *, end: str = "\n") -> None:
    """A finished text to stderr: progress, remarks, questions."""
    _write(sys.stderr, text + end)


def _write(stream: Any, text: str) -> None:
    if stream is None:
        return
    raw = getattr(stream, "buffer", None)
    if raw is None:
        stream.write(text)
    else:
        stream.flush()
        raw.write(text.encode("utf-8", "replace"))
    stream.flush()


def error(message: str, *, next: str | None, refused: bool) -> None:
    """An error as text: cause first, then the next command."""
    err(f"{'refused' if refused else 'error'}: {safe(message)}")
    if next:
        err(f"next     {safe(next)}")


def age(seconds: float | None) -> str:
    """A duration as people say it: `0.4s`, `42s`, `4m14s`, `6h 3m`, `12d 4h`."""
    if seconds is None:
        return "–"
    s = max(0.0, seconds)
    if s < 10:
        return f"{s:.1f}s"
    if s < 60:
        return f"{s:.0f}s"
    if s < 3600:
        return f"{int(s // 60)}m{int(s % 60):02d}s"
    if s < 86400:
        return f"{int(s // 3600)}h {int(s % 3600 // 60)}m"
    return f"{int(s // 86400)}d {int(s % 86400 // 3600)}h"


def clock(seconds: float | None) -> str:
    """A time of day in UTC, with the date where it is not today's."""
    if seconds is None:
        return "–"
    at, now = datetime.fromtimestamp(seconds, UTC), datetime.now(UTC)
    return at.strftime("%H:%M:%S" if at.date() == now.date() else "%b %d %H:%M:%S")
