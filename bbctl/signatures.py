"""Known troubles as lines of a log: a folder of YAML files, one each, read once; finding them in dated lines is pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bbctl.remote.logs import Line
from bbctl.schema import DURATION_LEAF, NAME_LEAF, REGEX, TEXT, Key, Many, Record, one_of, read, whole
from bbctl.yamlfile import load

KEYS = {
    "name": Key(kind=NAME_LEAF, doc="what it is called", required=True),
    "title": Key(kind=TEXT, doc="one line for the page", required=True),
    "match": Key(kind=REGEX, doc="a line that shows it", required=True),
    "ended": Key(kind=REGEX, doc="a later line that takes it back"),
    "quiet": Key(kind=DURATION_LEAF, doc="it counts only when the log has been silent for so long since", default="0s"),
    "within": Key(kind=DURATION_LEAF, doc="how long it counts", default="1d"),
    "severity": Key(kind=whole(1, 5), doc="of the legend", default="3"),
    "check": Key(kind=one_of("log-signature", "deadlock"), doc="the finding it makes", default="log-signature"),
    "next": Key(kind=TEXT, doc="the next command; {host} is the host's name"),
    "about": Key(kind=TEXT, doc="what is known of it"),
    "samples": Key(kind=Many(of=TEXT, what="lines"), doc="lines that it must find"),
}


@dataclass(frozen=True, kw_only=True)
class Signature:
    name: str
    title: str
    match: re.Pattern[str]
    ended: re.Pattern[str] | None
    quiet: float
    within: float
    severity: int
    check: str
    next: str | None
    about: str
    samples: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Hit:
    """`first` and `last` of the lines that show it."""

    signature: Signature
    first: Line
    last: Line
    count: int


def find(signatures: Sequence[Signature], lines: Sequence[Line], now: float) -> list[Hit]:
    """What the lines show: `within` the signature's time, not taken back since. Times by the host's clock."""
    found = []
    newest = max((x.latest for x in lines if x.latest is not None), default=None)
    for one in signatures:
        hits: list[Line] = []
        for line in lines:
            if one.match.search(line.text):
                hits.append(line)
            elif hits and one.ended is not None and one.ended.search(line.text):
                hits.clear()
        recent = [x for x in hits if x.latest is None or now - x.latest <= one.within]
        if recent and (not one.quiet or (newest is not None and now - newest >= one.quiet)):
            found.append(Hit(signature=one, first=recent[0], last=recent[-1], count=len(recent)))
    return found


def read_folder(folder: Path) -> list[Signature]:
    """The signatures of a folder, by name. Raises ConfigError with file and line for one that is wrong."""
    return [read_file(path) for path in sorted(folder.glob("*.yml"))]


def read_file(path: Path) -> Signature:
    made: Signature = read(load(path), Record(what="a log signature", keys=KEYS, build=_build))
    return made


def _build(**said: Any) -> Signature:
    texts = {"ended": None, "next": None, "about": "", "samples": (), **said}
    for key in ("match", "ended"):
        texts[key] = re.compile(texts[key], re.IGNORECASE) if texts[key] else None
    texts["samples"] = tuple(texts["samples"] or ())
    return Signature(**texts)
