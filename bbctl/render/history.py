"""The history of workflows on the screen: every change in order, or what ran when as bars."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich.text import Text

from bbctl.render.screen import DIM, age, clock, cut, draw, safe, table
from bbctl.render.workflow import DONE, short

if TYPE_CHECKING:
    from engine.model import HistoryLine, Node

BARS = 60  # columns of a bar


def history(rows: Sequence[tuple[Node, HistoryLine]]) -> None:
    """Every pair each node has had, in the order of time."""
    lines = table("at", "node", "id", "server/client", "")
    for node, line in rows:
        said = "" if line.response in (None, {}) else cut(safe(json.dumps(line.response, ensure_ascii=False)), 100)
        word = "refused, changed nothing" if line.refused else ""
        lines.add_row(
            clock(line.at / 1000),
            safe(node.name),
            short(node),
            f"{line.server}/{line.client}",
            " ".join(filter(None, (word, said))),
        )
    draw(lines)


LETTERS = {
    "sent_to_client": "█",
    "processing_children": "▒",
    "retrying": "r",
    "started": "·",
    "ready": "·",
    "pending": "·",
}
LETTERS |= {"retries_exhausted": "x", "errored": "x", "paused": "p"}


def bars(rows: Iterable[tuple[Node, int, Sequence[HistoryLine]]], now: int) -> None:
    """What ran when: a column is a slice of time. █ with its client ▒ its children r waits to retry x failed · waits p paused."""
    found = [(n, depth, lines) for n, depth, lines in rows if lines]
    if not found:
        draw("no history yet")
        return
    start = min(lines[0].at for _, _, lines in found)
    end = max(max((line.at for line in lines), default=start) if n.ss in DONE else now for n, _, lines in found)
    span = max(1, end - start)
    wide = max(len(safe(n.name)) + 2 * depth for n, depth, _ in found)
    for node, depth, lines in found:
        bar = bar_of(lines, node.ss in DONE, start=start, span=span, end=end)
        name = "  " * depth + safe(node.name)
        draw(Text(f"{name:<{wide}}  {short(node)}  ") + Text(bar) + Text(f"  {node.ss}", style=DIM))
    left, right = clock(start / 1000), f"{clock(end / 1000)} (+{age(span / 1000)})"
    draw(Text(" " * (wide + 12) + left + " " * max(1, BARS - len(left) - len(right)) + right, style=DIM))
    draw(Text("█ with its client  ▒ its children  r waits to retry  x failed  · waits  p paused", style=DIM))


def bar_of(lines: Sequence[HistoryLine], finished: bool, *, start: int, span: int, end: int) -> str:
    """A bar of BARS columns; what happened at all gets one column at least."""
    cells = [" "] * BARS
    ends = [line.at for line in lines[1:]] + [lines[-1].at if finished else end]
    for line, until in zip(lines, ends, strict=True):
        letter = LETTERS.get(line.server)
        if letter:
            first = min(BARS - 1, (line.at - start) * BARS // span)
            last = min(BARS - 1, max(first, (until - start) * BARS // span - 1))
            cells[first : last + 1] = [letter] * (last - first + 1)
    return "".join(cells)
