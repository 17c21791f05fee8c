"""Sets of names in short: `accounting-worker[1-3].snc1`, `{1,3}`, lists with commas; and folded back for people.

Inventories and command lines read ranges here and nowhere else. Names are data: no operator, group or wildcard has a
meaning in this file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import product

from ClusterShell.NodeSet import RESOLVER_NOGROUP, NodeSet

MAX_NAMES = 10_000
MAX_SETS = 4  # braces in one word; more is no host name

_CLOSING = {"{": "}", "[": "]"}
_RANGE = re.compile(r"([0-9]{1,9})-([0-9]{1,9})")
_WORD = re.compile(r"[A-Za-z0-9._-]+")


def split_commas(text: str) -> list[str]:
    """The words of a list; commas inside braces or brackets do not part. Empty words are left out."""
    words, depth, word = [], 0, ""
    for char in text:
        depth += (char in "{[") - (char in "}]")
        if char == "," and depth <= 0:
            words.append(word.strip())
            word = ""
        else:
            word += char
    return [word for word in [*words, word.strip()] if word]


def expand(text: str, *, most: int = MAX_NAMES) -> list[str]:
    """Every name that one word with ranges stands for, in order. Raises ValueError (what is wrong)."""
    parts: list[list[str]] = []
    rest = text
    count = 1
    while found := re.search(r"[{}\[\]]", rest):
        if found[0] in "}]":
            raise ValueError(f"{found[0]} without its opening brace")
        body, closing, after = rest[found.end() :].partition(_CLOSING[found[0]])
        if not closing or re.search(r"[{}\[\]]", body):
            raise ValueError(f"{found[0]} is not closed by {_CLOSING[found[0]]}")
        if len(parts) >= 2 * MAX_SETS:
            raise ValueError(f"more than {MAX_SETS} ranges in one word")
        parts += [[rest[: found.start()]], _members(body, most)]
        count *= len(parts[-1])
        if count > most:
            raise ValueError(f"stands for more than {most:,} names")
        rest = after
    return ["".join(chosen) for chosen in product(*parts, [rest])]


def fold(names: Iterable[str]) -> str:
    """The same names in short, for people: `accounting-worker[1-3].snc1`."""
    return str(NodeSet.fromlist(list(names), resolver=RESOLVER_NOGROUP))


def _members(body: str, most: int) -> list[str]:
    members: list[str] = []
    for item in body.split(","):
        if found := _RANGE.fullmatch(item):
            members += _range(found[1], found[2], most)
        elif _WORD.fullmatch(item):
            members.append(item)
        else:
            raise ValueError(f'"{item}" is neither a word nor a range such as 1-3')
    return members


def _range(first: str, last: str, most: int) -> list[str]:
    padded = any(len(end) > 1 and end[0] == "0" for end in (first, last))
    if padded and len(first) != len(last):
        raise ValueError(f"{first}-{last} pads its ends differently")
    low, high = int(first), int(last)
    if low > high:
        raise ValueError(f"{first}-{last} runs backwards")
    if high - low >= most:
        raise ValueError(f"{first}-{last} stands for more than {most:,} names")
    return [str(number).zfill(len(first) if padded else 0) for number in range(low, high + 1)]
