"""The host keys we know: OpenSSH's known_hosts, read once a command, and written by `hosts trust` alone.

Format: sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT". Hashed names, patterns and negation are understood; `@revoked` refuses a
key; `@cert-authority` lines are left alone and prove nothing.
"""

from __future__ import annotations

import base64
import binascii
import fcntl
import hashlib
import hmac
import os
import re
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bbctl.errors import ConfigError

Verdict = Literal["known", "unknown", "changed", "revoked"]


@dataclass(frozen=True)
class HostKey:
    """`kind` as known_hosts writes it (`ssh-ed25519`), `blob` the public key as it travels."""

    kind: str
    blob: bytes

    @property
    def fingerprint(self) -> str:
        return "SHA256:" + base64.b64encode(hashlib.sha256(self.blob).digest()).decode().rstrip("=")


@dataclass(frozen=True)
class _Line:
    marker: str
    patterns: tuple[str, ...]
    key: HostKey

    def matches(self, name: str) -> bool:
        """Whether one of the patterns is `name` and none excludes it."""
        hit = False
        for pattern in self.patterns:
            negated = pattern.startswith("!")
            if _same(pattern.removeprefix("!"), name):
                if negated:
                    return False
                hit = True
        return hit


class KnownHosts:
    """All lines of some files. Lookups are exact names first (a dict), the few hashed or wild lines after."""

    def __init__(self, lines: Iterable[_Line]) -> None:
        self._exact: dict[str, list[HostKey]] = {}
        self._odd: list[_Line] = []
        self._revoked: list[_Line] = []
        for line in lines:
            if line.marker == "@revoked":
                self._revoked.append(line)
            elif not line.marker and all(map(_is_exact, line.patterns)):
                for name in line.patterns:
                    self._exact.setdefault(name.lower(), []).append(line.key)
            elif not line.marker:
                self._odd.append(line)

    @classmethod
    def read(cls, files: Iterable[Path]) -> KnownHosts:
        """Missing files are empty. Raises ConfigError for one that is there and cannot be read."""
        return cls(line for path in files for text in _text(path).splitlines() if (line := _parse(text)))

    def under(self, name: str) -> list[HostKey]:
        """The keys stored under one name."""
        return self._exact.get(name.lower(), []) + [line.key for line in self._odd if line.matches(name)]

    def keys(self, wanted: Iterable[str]) -> tuple[HostKey, ...]:
        """The keys stored for a host: those of the first of its `names()` that has any."""
        found: Iterable[HostKey] = next(filter(None, map(self.under, wanted)), ())
        return tuple(dict.fromkeys(found))

    def verdict(self, wanted: Sequence[str], key: HostKey) -> Verdict:
        """What is known of a key that a host with these `names()` shows."""
        if any(line.key.blob == key.blob and any(map(line.matches, wanted)) for line in self._revoked):
            return "revoked"
        stored = self.keys(wanted)
        if not stored:
            return "unknown"
        return "known" if any(known.blob == key.blob for known in stored) else "changed"


def files(own: Path | None) -> list[Path]:
    """Where keys are looked up: the inventory's known_hosts, then the user's. Keys are added to the first."""
    found = [own] if own else []
    with suppress(RuntimeError):  # a user without any home
        found.append(Path("~/.ssh/known_hosts").expanduser())
    return found


def names(address: str, name: str, port: int) -> tuple[str, ...]:
    """Under which names a host is looked up, in order: address (with its port), then name."""
    found = [address, name] if port == 22 else [f"[{address}]:{port}", f"[{name}]:{port}", name]
    return tuple(dict.fromkeys(found))


def trust(path: Path, hosts: Sequence[tuple[Sequence[str], HostKey]], *, replace: bool) -> None:
    """Adds one line a host to `path` (made 0600 where missing), all other lines kept; atomic, one writer at a time.

    `replace` takes the hosts' names off every line that has them, and drops a hashed line that means them.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        lines = _text(path).splitlines()
        if replace:
            gone = {name for wanted, _ in hosts for name in wanted}
            lines = [kept for line in lines if (kept := _without(line, gone)) is not None]
        lines += [f"{','.join(wanted)} {key.kind} {base64.b64encode(key.blob).decode()}" for wanted, key in hosts]
        _replace(path, "\n".join(lines) + "\n")
        os.fsync(folder)
    finally:
        os.close(folder)


def _replace(path: Path, text: str) -> None:
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path.resolve() if path.is_symlink() else path)
    except BaseException:
        os.unlink(temporary)
        raise


def _without(line: str, gone: set[str]) -> str | None:
    """The line without those names; None where nothing of it is left. Marked lines stay as they are."""
    parsed = _parse(line)
    if parsed is None or parsed.marker or not any(parsed.matches(name) for name in gone):
        return line
    left = [p for p in parsed.patterns if not any(_same(p, name) for name in gone)]
    return line.replace(",".join(parsed.patterns), ",".join(left), 1) if left else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}", next=f"ls -l {path}") from error


def _parse(text: str) -> _Line | None:
    fields = text.split()
    marker = fields.pop(0) if fields and fields[0].startswith("@") else ""
    if len(fields) < 3 or fields[0].startswith("#"):
        return None
    try:
        blob = base64.b64decode(fields[2], validate=True)
    except (binascii.Error, ValueError):
        return None
    return _Line(marker, tuple(filter(None, fields[0].split(","))), HostKey(fields[1], blob))


def _is_exact(pattern: str) -> bool:
    return not pattern.startswith(("|", "!")) and "*" not in pattern and "?" not in pattern


def _same(pattern: str, name: str) -> bool:
    if pattern.startswith("|1|"):
        _, _, salt, digest = (*pattern.split("|"), "", "")[:4]
        try:
            made = hmac.digest(base64.b64decode(salt), name.encode(), "sha1")
            return hmac.compare_digest(made, base64.b64decode(digest))
        except (binascii.Error, ValueError):
            return False
    if "*" not in pattern and "?" not in pattern:
        return pattern.lower() == name.lower()
    wild = re.escape(pattern.lower()).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(wild, name.lower()) is not None
