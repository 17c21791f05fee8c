"""The nearest known word to one that is not known: what every "unknown …" message ends with."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

MAX_SHOWN = 60


def nearest(word: str, known: Iterable[str]) -> list[str]:
    """The known words most like `word`, three at most, best first; none where nothing is alike."""
    return get_close_matches(word[:MAX_SHOWN], sorted(set(known)), n=3, cutoff=0.6)


def hint(word: str, known: Iterable[str]) -> str:
    """`: did you mean x or y?` or nothing, to stand at the end of a message."""
    found = nearest(word, known)
    return f": did you mean {' or '.join(found)}?" if found else ""


def shown(text: str) -> str:
    """`text` quoted on one line, shortened, control characters escaped: safe to repeat in a message."""
    return ascii_controls(text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…")


def ascii_controls(text: str) -> str:
    return '"' + "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text) + '"'
