"""Every act, by whom: one JSON line each in `$BBCTL_HOME/audit.jsonl`, chained by hashes.

A line before the act (`intent`) and one after it (`result`). Each holds the hash of the line before it, so an edited,
deleted or reordered line shows; `audit.head` holds number and hash of the last line, so a cut tail shows too. Writers
are serialised by an flock. Nothing secret goes in: the words of a call are masked before.

Half a line at the end, which the head has not counted, is what a writer killed in mid-write left: the next line takes it
over as its `torn`, under its own hash. Half a line that was counted before is no such thing, and stays for `verify` to name.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from bbctl.errors import Failed
from bbctl.redact import mask

ZERO = "0" * 64
_SECRET_NEXT = re.compile(r"(?i)--?(password|passwd|passphrase|token|secret|api-?key)")


def masked(words: Sequence[str]) -> list[str]:
    """The words of a call without what looks like a password or a token: in URLs, after `=`, in headers, or the next word."""
    before = ["", *words]
    return ["***" if _SECRET_NEXT.fullmatch(last) else mask(word) for last, word in zip(before, words, strict=False)]


def act(entry: Mapping[str, Any]) -> str:
    """Which command a line is about."""
    return str(entry.get("command") or entry.get("act") or "")


def outcome(entry: Mapping[str, Any]) -> str:
    """What came of it, in its own words where it left some; of several hosts each word once. Of a line before the act: what
    was decided."""
    result = entry.get("said") or entry.get("result", entry.get("decision", ""))
    said = result.values() if isinstance(result, Mapping) else [result]
    return ", ".join(dict.fromkeys(map(str, said)))


def append(home: Path, entry: Mapping[str, Any]) -> str:
    """Add one act: `operator argv targets decision result run …`. Gives its hash; it is on the disk when this returns."""
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _held(home) as fd:
            count, prev, torn = _tail(fd, _read_head(home))
            line: dict[str, Any] = {"seq": count + 1, "at": time.time(), **entry, "prev": prev}
            line |= {"torn": torn} if torn else {}
            line |= {"reason": mask(str(line["reason"]))} if line.get("reason") else {}
            line["hash"] = _digest(line)
            text = json.dumps(line, ensure_ascii=False, sort_keys=True, default=str) + "\n"
            _whole(fd, text.encode("utf-8", "replace"))
            _head(home, line)
    except OSError as error:
        raise Failed(
            f"{home / 'audit.jsonl'} cannot be written: {error.strerror}", code="audit", next="bbctl config show"
        ) from None
    return str(line["hash"])


def after(home: Path, entry: Mapping[str, Any]) -> str | None:
    """Add what came of an act that is done. What kept it from being written, or None: the result must be told all the same."""
    try:
        append(home, entry)
    except Failed as error:
        return error.message
    return None


def entries(home: Path) -> Iterator[dict[str, Any]]:
    """All acts, oldest first; lines that are no JSON are left out (`verify` names them)."""
    for _, value in _lines(home):
        if value is not None and not isinstance(value, Torn):
            yield value


def head(home: Path) -> tuple[int, str] | None:
    """Number and hash of the last line; None where nothing was written yet."""
    found = _read_head(home)
    return None if found is None else (found["seq"], found["hash"])


def verify(home: Path, *, told: Sequence[tuple[int, str]] = ()) -> int:
    """How many lines, all in order. Failed names the first line that is not what was written. `told`: number and hash of some
    lines, as another place remembers them: a tail that was cut off here together with its mark is missed there."""
    remembered: dict[int, set[str]] = {}
    for line, known in told:
        remembered.setdefault(line, set()).add(known)
    mark = _read_head(home)
    prev, count, marked = ZERO, 0, ZERO
    for number, value in _lines(home):
        if isinstance(value, Torn) and not _counted(mark, count):
            break
        count = number
        if (
            value is None
            or isinstance(value, Torn)
            or not _follows(value, number, prev)
            or not remembered.get(number, set()) <= {value["hash"]}
        ):
            raise Failed(
                f"{home / 'audit.jsonl'}:{number}: edited, moved, or lines before it are missing",
                next="compare with a copy elsewhere; the lines before it hold", code="audit-broken",
            )  # fmt: skip
        prev = value["hash"]
        marked = prev if mark and mark["seq"] == number else marked
    if mark and mark["hash"] != marked:  # a writer killed before it moved the head leaves one line more, never fewer
        raise _cut(home, count, f"{mark['seq']} lines were written")
    if (last := max(remembered, default=0)) > count:
        raise _cut(home, count, f"MongoDB remembers {last} lines")
    return count


def torn(home: Path) -> list[int]:
    """The lines before which a writer was killed in mid-write; the last may be the one that is not written yet."""
    found = []
    for number, value in _lines(home):
        if isinstance(value, Torn) or (value is not None and value.get("torn")):
            found.append(number)
    return found


def _counted(mark: Mapping[str, Any] | None, count: int) -> bool:
    """Has the head counted more than these lines?"""
    return mark is not None and mark["seq"] > count


def _follows(value: Mapping[str, Any], number: int, prev: str) -> bool:
    return value.get("seq") == number and value.get("prev") == prev and value.get("hash") == _digest(value)


def _cut(home: Path, count: int, said: str) -> Failed:
    where = f"{home / 'audit.jsonl'}:{count + 1}"
    return Failed(
        f"{where}: the tail is cut off: {said}, {count} are there", code="audit-broken", next="bbctl audit list"
    )


def _digest(line: Mapping[str, Any]) -> str:
    text = json.dumps({k: v for k, v in line.items() if k != "hash"}, ensure_ascii=False, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


@contextmanager
def _held(home: Path) -> Iterator[int]:
    fd = os.open(home / "audit.jsonl", os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield fd
    finally:
        os.close(fd)


def _tail(fd: int, mark: Mapping[str, Any] | None) -> tuple[int, str, str]:
    """Number and hash of the last line, and half a line behind it, from a kill in mid-write, which is taken off. One that the
    head has counted is ended instead, so that `verify` names it."""
    data = _last_piece(fd)
    whole, _, rest = data.rpartition(b"\n")
    half = rest if rest and _read(rest) is None else b""
    count, prev = 0, ZERO
    for raw in reversed((whole if half else data).split(b"\n")):
        with suppress(ValueError, KeyError, TypeError):
            value = json.loads(raw)
            count, prev = int(value["seq"]), str(value["hash"])
            break
    if half and not _counted(mark, count):
        os.ftruncate(fd, os.fstat(fd).st_size - len(half))
        return count, prev, half.decode("utf-8", "replace")
    if rest:
        os.write(fd, b"\n")
    return count, prev, ""


def _whole(fd: int, line: bytes) -> None:
    """All of a line, on the disk, or nothing of it."""
    size = os.fstat(fd).st_size
    try:
        view = memoryview(line)
        while view:
            view = view[os.write(fd, view) :]
        os.fsync(fd)
    except OSError:
        os.ftruncate(fd, size)
        raise


def _last_piece(fd: int, size: int = 1 << 20) -> bytes:
    end = os.fstat(fd).st_size
    return os.pread(fd, size, max(0, end - size))


class Torn(dict[str, Any]):
    """Half a line at the end of the file."""


def _read(raw: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(raw)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _lines(home: Path) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """Number and value of every line; None for one that is none of ours, Torn for half a one at the end."""
    path = home / "audit.jsonl"
    if not path.exists():
        return
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            value = _read(raw)
            yield number, Torn() if value is None and not raw.endswith(b"\n") else value


def _head(home: Path, line: Mapping[str, Any]) -> None:
    new = home / "audit.head.new"
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, json.dumps({"seq": line["seq"], "hash": line["hash"]}).encode())
    finally:
        os.close(fd)
    new.replace(home / "audit.head")


def _read_head(home: Path) -> dict[str, Any] | None:
    try:
        value = json.loads((home / "audit.head").read_bytes())
        whole = isinstance(value, dict) and isinstance(value.get("seq"), int) and isinstance(value.get("hash"), str)
        return value if whole else None
    except (OSError, ValueError):
        return None
