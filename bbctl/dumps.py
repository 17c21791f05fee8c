"""Reading a Java thread dump, pure: which threads stand in a deadlock, and who holds what they wait for."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

BEGIN = "Full thread dump"
END = "JNI global ref"  # the last lines of a dump; old JVMs say "references", new ones "refs"

_THREAD = re.compile(r'^"(?P<name>.*)" (?:#|prio=|daemon|tid=|os_prio=|\[)', re.MULTILINE)
_WAITS = re.compile(r"- (?:waiting to lock|parking to wait for)\s+<(0x[0-9a-f]+)>(?: \(an? ([\w.$]+)\))?")
_HOLDS = re.compile(r"- locked <(0x[0-9a-f]+)>")
_OWNS = re.compile(r"^\s+- <(0x[0-9a-f]+)> \(", re.MULTILINE)  # under "Locked ownable synchronizers"
_FOUND = re.compile(
    r"^Found (?:one|\d+) Java-level deadlocks?:\n=+\n(?P<body>.*?)(?=^Java stack information|^Found |\Z)", re.M | re.S
)
_MEMBER = re.compile(r'^"(?P<name>.*)":$', re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Deadlock:
    """Threads that wait for each other in a ring. `waits`: thread → what it waits for (an object's class, where known)."""

    threads: tuple[str, ...]
    waits: Mapping[str, str]

    def __str__(self) -> str:
        return " ⇄ ".join(f'"{name}"' for name in self.threads)

    def as_json(self) -> dict[str, Any]:
        return {"threads": list(self.threads), "waits": dict(self.waits)}


def deadlocks(text: str) -> list[Deadlock]:
    """The deadlocks in a text with dumps: those that the JVM names, and rings that the stacks show. Each once."""
    found = {frozenset(d.threads): d for d in [*_rings(text), *_named(text)]}
    return sorted(found.values(), key=lambda d: d.threads)


def whole(text: str) -> bool:
    """Whether a dump has begun and ended in this text."""
    return END in text[text.find(BEGIN) :] if BEGIN in text else False


def _named(text: str) -> list[Deadlock]:
    found = []
    for section in _FOUND.finditer(text):
        body = section["body"]
        names = tuple(dict.fromkeys(m["name"] for m in _MEMBER.finditer(body)))
        if len(names) > 1:
            waits = {}
            for name, part in zip(names, _MEMBER.split(body)[2::2], strict=False):
                what = re.search(
                    r"\(object 0x[0-9a-f]+, an? ([\w.$]+)\)|ownable synchronizer .*\(an? ([\w.$]+)\)", part
                )
                waits[name] = (what[1] or what[2]) if what else ""
            found.append(Deadlock(threads=names, waits=waits))
    return found


def _rings(text: str) -> list[Deadlock]:
    """Rings of `waiting to lock` and `locked`: thread → lock → its holder → …"""
    found: list[Deadlock] = []
    for dump in text.split(BEGIN)[1:]:
        waits: dict[str, tuple[str, str]] = {}
        holder: dict[str, str] = {}
        starts = list(_THREAD.finditer(dump))
        for at, start in enumerate(starts):
            stack = dump[start.start() : starts[at + 1].start() if at + 1 < len(starts) else len(dump)]
            stack = stack.split("\nFound ", 1)[0]
            if wait := _WAITS.search(stack):
                waits[start["name"]] = (wait[1], wait[2] or "")
            for lock in [*_HOLDS.findall(stack), *_OWNS.findall(stack)]:
                if lock != waits.get(start["name"], ("",))[0]:
                    holder.setdefault(lock, start["name"])
        found += _cycles({name: holder.get(lock, "") for name, (lock, _) in waits.items()}, waits)
    return found


def _cycles(after: Mapping[str, str], waits: Mapping[str, tuple[str, str]]) -> list[Deadlock]:
    found: list[Deadlock] = []
    done: set[str] = set()
    for first in after:
        path: list[str] = []
        at = first
        while at and at not in path and at not in done:
            path.append(at)
            at = after.get(at, "")
        if at in path and len(ring := path[path.index(at) :]) > 1:
            found.append(Deadlock(threads=tuple(sorted(ring)), waits={name: waits[name][1] for name in ring}))
        done.update(path)
    return found


def said(found: Sequence[Deadlock]) -> str:
    """Deadlocks in one line."""
    return "; ".join(f"deadlock {d}" for d in found)
