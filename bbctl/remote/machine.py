"""The machine itself: clock and zone, room on its file systems, load and memory, and what could send a signal there."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from bbctl.remote.shell import quote

# df may hang on a dead network file system: no look waits for that.
_TEXT = r"""
printf 'now %s\nzone %s\n' "$(date +%s%N)" "$(date +%z)"
read -r release < /proc/sys/kernel/osrelease; printf 'kernel %s\n' "$release"
for tool in perl python3; do ! command -v $tool >/dev/null 2>&1 || printf 'tool %s\n' $tool; done
read -r load < /proc/loadavg; printf 'load %s\ncores %s\n' "$load" "$(nproc)"
head -n 5 /proc/meminfo
for path in {paths}; do
  case $path in '~'*) path=$HOME${{path#?}};; esac
  while [ ! -e "$path" ] && [ "$path" != / ] && [ "$path" != . ]; do path=$(dirname -- "$path"); done
  printf 'path %s\n' "$path"
  timeout 3 df -P -k -- "$path" 2>/dev/null | tail -n 1
  timeout 3 df -P -i -- "$path" 2>/dev/null | tail -n 1
done
"""


@dataclass(frozen=True, kw_only=True)
class Disk:
    """A file system: bytes and inodes free to the login user; `used` is the share in use, 0 to 1, the worse of both."""

    mount: str
    free: int
    inodes: int | None
    used: float


@dataclass(frozen=True, kw_only=True)
class Machine:
    """`disks`: the asked path (or its nearest parent that exists) → its file system."""

    now: float
    zone: str = "+0000"
    load: float = 0.0
    cores: int = 1
    memory_free: float | None = None  # share available, 0 to 1
    pidfd: Literal["python3", "perl", "none"] = "none"
    disks: Mapping[str, Disk] = field(default_factory=dict)


def facts(paths: Sequence[str]) -> str:
    """Shell text that describes the machine and the file systems on which these paths lie."""
    return _TEXT.format(paths=" ".join(quote(p) for p in dict.fromkeys(paths)))


def understand(output: bytes) -> Machine:
    """Raises ValueError where not even the clock was read."""
    said: dict[str, list[str]] = {}
    disks: dict[str, Disk] = {}
    lines = output.decode("utf-8", "replace").splitlines()
    for number, line in enumerate(lines):
        word, _, rest = line.partition(" ")
        if word == "path":
            if disk := _disk(lines[number + 1 : number + 3]):
                disks[rest] = disk
        elif re.fullmatch(r"[a-z]+|Mem[A-Za-z]+:", word):
            said.setdefault(word, []).append(rest.strip())
    if "now" not in said:
        raise ValueError("the host did not say what it is: " + " ".join(lines)[:200])
    return Machine(
        now=int(said["now"][0]) / 1e9,
        zone=said.get("zone", ["+0000"])[0],
        load=float(said.get("load", ["0"])[0].split()[0]),
        cores=int(said.get("cores", ["1"])[0] or 1),
        memory_free=_memory(said),
        pidfd=_pidfd(said.get("kernel", [""])[0], said.get("tool", [])),
        disks=disks,
    )


def _pidfd(kernel: str, tools: Sequence[str]) -> Literal["python3", "perl", "none"]:
    version = re.match(r"(\d+)\.(\d+)", kernel)
    if version is None or (int(version[1]), int(version[2])) < (5, 3):
        return "none"
    return "perl" if "perl" in tools else "python3" if "python3" in tools else "none"


def _memory(said: Mapping[str, Sequence[str]]) -> float | None:
    try:
        total, free = (int(said[key][0].split()[0]) for key in ("MemTotal:", "MemAvailable:"))
    except (KeyError, IndexError, ValueError):
        return None
    return free / total if total else None


def _disk(lines: Sequence[str]) -> Disk | None:
    """Two last lines of df, in KiB and in inodes: device, all, used, free, share, mount point."""
    rows = [
        row for line in lines if (row := re.match(r"(.+?)\s+(\d+|-)\s+(\d+|-)\s+(\d+|-)\s+(\d+%|-)\s+(/.*)$", line))
    ]
    if not rows or rows[0][4] == "-":
        return None
    shares = [int(row[5][:-1]) / 100 for row in rows if row[5] != "-"]
    inodes = int(rows[1][4]) if len(rows) > 1 and rows[1][4] != "-" and rows[1][2] not in ("0", "-") else None
    return Disk(mount=rows[0][6], free=int(rows[0][4]) * 1024, inodes=inodes, used=max(shares, default=0.0))
