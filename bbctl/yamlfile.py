"""Safe YAML: a file becomes nodes that know their line, and every complaint names file and line.

A scalar stays the text that was written; what type it has is decided by where it stands (`bbctl.schema`), so `NO` is
never False and `010` never 8. Refused: aliases, anchors, tags, duplicate keys, keys that are no scalars, a second
document, control characters, more than MAX_BYTES, MAX_DEPTH or MAX_NODES, and a file that others may write to.
Nothing here recurses over input, so no file can do more than be refused.
"""

from __future__ import annotations

import grp
import os
import pwd
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from bbctl.errors import ConfigError
from bbctl.near import shown

MAX_BYTES = 1_000_000
MAX_DEPTH = 50
MAX_NODES = 100_000

_LOADER: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufeff\ufffe\uffff]")


@dataclass(frozen=True, slots=True)
class Node:
    """One value of a file. `source` is the file as the user named it, `line` counts from 1."""

    source: str
    line: int

    def error(self, message: str, *, line: int | None = None, next: str | None = None) -> ConfigError:
        return complaint(self.source, line or self.line, message, next=next)


@dataclass(frozen=True, slots=True)
class Scalar(Node):
    text: str
    plain: bool

    @property
    def empty(self) -> bool:
        """Nothing was written here (`key:`), or the word for it."""
        return self.plain and self.text in ("", "~", "null")


@dataclass(frozen=True, slots=True)
class Seq(Node):
    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Map(Node):
    items: Mapping[str, Node]
    lines: Mapping[str, int]  # where each key stands


def complaint(source: str, line: int, message: str, *, next: str | None = None) -> ConfigError:
    return ConfigError(f"{source}:{line}: {message}", next=next)


def load(path: Path, *, name: str | None = None) -> Node:
    """The one document of a file. `name` is what complaints call it. Raises ConfigError, and nothing else."""
    return parse(_read(path, name or str(path)), name or str(path))


def parse(text: str, source: str) -> Node:
    """The one document of `text`; an empty one is an empty map. Raises ConfigError (`source:line: …`)."""
    if bad := _UNPRINTABLE.search(text):
        raise complaint(source, text.count("\n", 0, bad.start()) + 1, f"character {shown(bad[0])} is not allowed")
    try:
        return _build(yaml.parse(text, Loader=_LOADER), source)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        what = getattr(error, "problem", None) or getattr(error, "reason", None) or "not YAML"
        raise complaint(source, mark.line + 1 if mark else 1, f"not valid YAML: {what}") from None


def _read(path: Path, name: str) -> str:
    try:
        # Non-blocking: a FIFO must be refused, not waited for.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            _check_mode(os.fstat(handle), name)
            with os.fdopen(handle, "rb", closefd=False) as file:
                data = file.read(MAX_BYTES + 1)
        finally:
            os.close(handle)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise complaint(
            name, 1, f"cannot be read: {why}", next="bbctl init DIR · it writes a commented sample"
        ) from None
    if len(data) > MAX_BYTES:
        raise complaint(name, 1, f"larger than {MAX_BYTES // 1_000_000} MB: refused")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise complaint(name, data.count(b"\n", 0, error.start) + 1, "not UTF-8") from None


def _check_mode(status: os.stat_result, name: str) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise complaint(name, 1, "not a regular file")
    others = status.st_mode & stat.S_IWOTH or (status.st_mode & stat.S_IWGRP and not _private_group(status))
    if others:
        raise complaint(name, 1, "others may write to this file: refused", next=f"chmod go-w {name}")


def _private_group(status: os.stat_result) -> bool:
    """True where the group is its owner alone, as on systems whose users have a group each and a umask of 002."""
    if status.st_uid == 0 or status.st_gid != status.st_uid:
        return False
    try:
        owner = pwd.getpwuid(status.st_uid).pw_name
        return set(grp.getgrgid(status.st_gid).gr_mem) <= {owner}
    except KeyError:
        return False


# -- events to nodes ---------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Open:
    """A collection whose end is not read yet."""

    line: int
    items: list[Node] = field(default_factory=list)
    pairs: dict[str, Node] | None = None
    lines: dict[str, int] = field(default_factory=dict)
    key: str | None = None


def _build(events: Iterator[Any], source: str) -> Node:
    stack: list[_Open] = []
    root: Node | None = None
    count = 0
    for event in events:
        kind = type(event)
        if kind in (yaml.StreamStartEvent, yaml.StreamEndEvent, yaml.DocumentEndEvent):
            continue
        line = event.start_mark.line + 1
        if kind is yaml.DocumentStartEvent:
            if root is not None:
                raise complaint(source, line, "one document only")
            continue
        _refuse_references(event, source, line)
        count += 1
        if count > MAX_NODES:
            raise complaint(source, line, f"more than {MAX_NODES:,} values")
        if kind in (yaml.MappingStartEvent, yaml.SequenceStartEvent):
            if len(stack) >= MAX_DEPTH:
                raise complaint(source, line, f"nested deeper than {MAX_DEPTH} levels")
            if stack and _wants_key(stack[-1]):
                raise complaint(source, line, "a key must be a plain word")
            stack.append(_Open(line, pairs={} if kind is yaml.MappingStartEvent else None))
            continue
        node = _scalar(event, source, line) if kind is yaml.ScalarEvent else _closed(stack.pop(), source)
        if not stack:
            root = node
        else:
            _put(stack[-1], node, source)
    return root if root is not None and not _blank(root) else Map(source, 1, {}, {})


def _blank(root: Node) -> bool:
    return isinstance(root, Scalar) and root.empty


def _refuse_references(event: Any, source: str, line: int) -> None:
    if type(event) is yaml.AliasEvent:
        raise complaint(source, line, f"aliases (*{event.anchor}) are not allowed: write the value out")
    if getattr(event, "anchor", None) is not None:
        raise complaint(source, line, f"anchors (&{event.anchor}) are not allowed: write the value out")
    if getattr(event, "tag", None) is not None:
        raise complaint(source, line, f"tags ({shown(event.tag)}) are not allowed: write the plain value")


def _scalar(event: Any, source: str, line: int) -> Scalar:
    if bad := _CONTROL.search(event.value):
        raise complaint(source, line, f"character {shown(bad[0])} is not allowed")
    return Scalar(source, line, event.value, event.style not in ("'", '"', "|", ">"))


def _closed(done: _Open, source: str) -> Node:
    if done.pairs is None:
        return Seq(source, done.line, tuple(done.items))
    return Map(source, done.line, done.pairs, done.lines)


def _wants_key(parent: _Open) -> bool:
    return parent.pairs is not None and parent.key is None


def _put(parent: _Open, node: Node, source: str) -> None:
    if parent.pairs is None:
        parent.items.append(node)
    elif parent.key is None and isinstance(node, Scalar):
        if node.text in parent.pairs:
            first = parent.lines[node.text]
            raise complaint(source, node.line, f"duplicate key {shown(node.text)}, first on line {first}")
        parent.key = node.text
        parent.lines[node.text] = node.line
    elif parent.key is not None:
        parent.pairs[parent.key] = node
        parent.key = None
