"""What the doctor found: a line each, a mark first, the way out below what is not well."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from bbctl.doctor import Checked
from bbctl.render import screen

MARKS = {"ok": ("✓", screen.GOOD), "warning": ("!", screen.BUSY), "wrong": ("✗", screen.BAD)}


def doctor(found: Sequence[Checked]) -> None:
    """One line a finding; equal checks stand under one word."""
    last = ""
    for one in found:
        mark, colour = MARKS[one.state]
        lead = Text.assemble((f" {mark} ", colour), (f"{one.check if one.check != last else '':<9}", "bold"))
        screen.draw(screen.paragraph(lead, Text(screen.safe(one.detail))))
        if one.next:
            screen.draw(Text(f"            → {one.next}", style=screen.DIM))
        last = one.check
