"""A group retry on disk: which nodes were confirmed, which are done. So that it can be cut anywhere and gone on with."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bbctl.errors import Failed


@dataclass
class Regroup:
    """The list is frozen when it is confirmed: what joins the group later was never looked at by anybody."""

    path: Path
    group: str
    ids: tuple[str, ...]
    done: list[str] = field(default_factory=list)

    @property
    def left(self) -> list[str]:
        finished = set(self.done)
        return [id for id in self.ids if id not in finished]

    def tick(self, id: str) -> None:
        """One more is done; on the disk when this returns."""
        self.done.append(id)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"done": id}) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def close(self) -> None:
        """All done: nothing is left to go on with."""
        self.path.unlink(missing_ok=True)


def begin(home: Path, group: str, ids: Sequence[str]) -> Regroup:
    path = _path(home, group)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "w") as file:
        file.write(json.dumps({"group": group, "ids": list(ids)}) + "\n")
        file.flush()
        os.fsync(file.fileno())
    return Regroup(path, group, tuple(ids))


def unfinished(home: Path, group: str) -> Regroup | None:
    """One that was cut; None if there is none. Failed if its file makes no sense."""
    path = _path(home, group)
    try:
        text = path.read_text(encoding="utf-8")
        head, *lines = text.splitlines()
        found = Regroup(path, group, tuple(json.loads(head)["ids"]))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        raise Failed(f"{path} cannot be read", next=f"remove it · then bbctl wf retry --group {group}") from None
    if not text.endswith("\n"):  # what comes next must not be glued to half a line
        with path.open("a", encoding="utf-8") as file:
            file.write("\n")
    for line in lines:
        if line.startswith('{"done": ') and line.endswith("}"):  # half a line, from a kill in mid-write, is done again
            found.done.append(str(json.loads(line)["done"]))
    return found


def _path(home: Path, group: str) -> Path:
    return home / "regroups" / f"{''.join(c for c in group if c.isalnum() or c == '-')}.jsonl"
