"""Where a log that is followed is gone on with after its connection died."""

from __future__ import annotations

import pytest

from bbctl.remote.logs import Tail
from bbctl.remote.trail import Look, Place, Trail

TICK = b"tick\n"


def disk(**files: bytes) -> Look:
    """The ends of files by their names, `log` and `log_1`; each name's first letters are its content's own number."""

    def look(path: str, window: int) -> Tail:
        data = files.get(path.replace(".", "_"))
        if data is None:
            return Tail(state="missing")
        start = max(0, len(data) - window)
        number = data[:2].decode()
        return Tail(state="ok", start=start, size=len(data), file=number, data=data[start:])

    return look


def trail(*came: bytes, begun: bytes | None = None) -> Trail:
    made = Trail()
    if begun is not None:
        made.begin(disk(log=begun)("log", 1))
    for data in came:
        made.add(data)
    return made


def test_lines_that_stand_there_once_are_gone_on_behind_surely() -> None:
    assert trail(b"a1\na2\n").place("log", disk(log=b"a1\na2\na3\n")) == Place(start=6)


def test_of_lines_that_come_again_and_again_none_is_lost_and_it_is_not_called_sure() -> None:
    assert trail(TICK).place("log", disk(log=TICK * 9)) == Place(start=5, sure=False)


def test_what_stands_before_the_end_that_was_seen_at_first_is_not_taken_for_what_came() -> None:
    made = trail(TICK, begun=TICK * 4)
    assert made.place("log", disk(log=TICK * 5)) == Place(start=25)
    made.add(TICK)
    assert made.place("log", disk(log=TICK * 9)) == Place(start=30, sure=False)


def test_a_log_of_which_nothing_came_is_gone_on_with_at_its_end_as_it_was() -> None:
    assert trail(begun=b"a1\na2\n").place("log", disk(log=b"a1\na2\na3\n")) == Place(start=6)
    assert trail(begun=b"a1\na2\n").place("log", disk(log=b"b1\n")) == Place(start=0, sure=False)
    missing = Trail()
    missing.begin(Tail(state="missing"))
    assert missing.place("log", disk(log=b"a1\n")) == Place(start=0)


def test_a_rotation_gives_the_rest_of_the_old_file_and_then_the_new_one_from_its_beginning() -> None:
    made = trail(b"a2\n", begun=b"a1\n")
    place = made.place("log", disk(log=b"b1\n", log_1=b"a1\na2\na3\n"))
    assert place == Place(start=0, missed=b"a3\n")
    made.add(place.missed)
    made.add(b"b1\n" + TICK * 200)
    assert made.place("log", disk(log=b"b1\n" + TICK * 200)) == Place(start=1003)


def test_a_file_that_was_cut_below_its_known_place_is_searched_from_its_beginning() -> None:
    made = trail(b"a9\n", begun=b"a1\n" * 9)
    assert made.place("log", disk(log=b"a1\na9\na3\n")) == Place(start=6)


def test_a_log_that_may_not_be_read_any_more_has_no_place() -> None:
    with pytest.raises(ValueError, match="could not be read"):
        trail(b"a1\n").place("log", lambda path, window: Tail(state="denied"))
