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
    """The last bytes that came; and, once it is known, a place in the file: what came ends at `floor` or behind it."""

    last: bytes = b""
    file: str | None = None  # the file that `floor` is in; "" where it was not there yet, None where nothing is known
    floor: int = 0

    def add(self, data: bytes) -> None:
        self.last = (self.last + data)[-KEPT[0] :]
        self.floor += len(data)

    def begin(self, seen: logs.Tail, start: int | None = None) -> None:
        """What is read begins at offset `start`, or at the end of the file as it was seen, or behind it."""
        if seen.state != "denied":
            self.file, self.floor = seen.file, seen.size if start is None else start

    def place(self, path: str, look: Look) -> Place:
        """Where to go on. `look` gives the end of a file, so many bytes of it. Raises ValueError where it may not be read."""
        tail = _readable(look(path, WINDOWS[0]))
        place = self._place(path, look, tail) if self.last else self._as_begun(tail)
        self.begin(tail, place.start - len(place.missed))  # what was missed is added as if it had come
        return place

    def _as_begun(self, tail: logs.Tail) -> Place:
        """Nothing came yet."""
        same = tail.file == self.file and tail.size >= self.floor
        return Place(start=self.floor) if same else Place(start=0, sure=self.file == "")

    def _place(self, path: str, look: Look, tail: logs.Tail) -> Place:
        for window in WINDOWS:
            tail = tail if window == WINDOWS[0] else _readable(look(path, window))
            if found := self._end(tail):
                return Place(start=tail.start + found[0], sure=found[1])
            if tail.start == 0:
                break
        before = look(f"{path}.1", WINDOWS[-1])
        if found := self._end(before):
            return Place(start=0, missed=before.data[found[0] :], sure=found[1])
        return Place(start=tail.start, sure=False)

    def _end(self, tail: logs.Tail) -> tuple[int, bool] | None:
        """Where what came ends in these bytes, and whether that is sure: where the same bytes come again it is taken to be
        the first, as lines that come twice are better than lines that never come."""
        floor = self.floor - tail.start if tail.file == self.file else 0
        for size in KEPT:
            ending = self.last[-size:]
            for low in (floor - len(ending), 0) if floor > len(ending) else (0,):
                if (at := tail.data.find(ending, low)) >= 0:
                    return at + len(ending), tail.data.find(ending, at + 1) < 0
        return None


def _readable(tail: logs.Tail) -> logs.Tail:
    if tail.state == "denied":
        raise ValueError("it could not be read")
    return tail
