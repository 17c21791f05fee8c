"""The end of what was read of a log, by which its place is found again after a connection died: no line lost, none twice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bbctl.remote import logs

KEPT = (4096, 512)  # bytes that are looked for: the longer, the surer; the shorter may do where two files were mixed
WINDOWS = (logs.WINDOW, 8 << 20)  # bytes of a log's end in which they are looked for

Look = Callable[[str, int], logs.Tail]


@dataclass(frozen=True, kw_only=True)
class Place:
    """Go on at offset `start`; `missed`: what stands at the end of the file that was rotated away meanwhile. `sure`: nothing
    is missing, and nothing comes twice."""

    start: int
    missed: bytes = b""
    sure: bool = True


@dataclass
class Trail:
    """The last bytes that came."""

    last: bytes = b""

    def add(self, data: bytes) -> None:
        self.last = (self.last + data)[-KEPT[0] :]

    def place(self, path: str, look: Look) -> Place:
        """Where to go on. `look` gives the end of a file, so many bytes of it. Raises ValueError where it may not be read."""
        for window in WINDOWS:
            tail = look(path, window)
            if tail.state == "denied":
                raise ValueError("it could not be read")
            end = self._end(tail)
            if end is not None:
                return Place(start=tail.start + end)
            if tail.start == 0:
                break
        before = look(f"{path}.1", WINDOWS[-1])
        if (end := self._end(before)) is not None:
            return Place(start=0, missed=before.data[end:])
        return Place(start=tail.start, sure=False)

    def _end(self, tail: logs.Tail) -> int | None:
        for size in KEPT:
            at = tail.data.rfind(self.last[-size:])
            if at >= 0:
                return at + len(self.last[-size:])
        return None
