"""How the answers of hosts are shown."""

from __future__ import annotations

import io
import json
import sys

import pytest

from bbctl.model import Ran
from bbctl.render import answers


class Terminal(io.TextIOWrapper):
    def isatty(self) -> bool:
        return True


def ran(host: str, out: bytes = b"", status: str = "ok", **more: object) -> Ran:
    return Ran(host=host, status=status, stdout=out, **more)  # type: ignore[arg-type]


def printed(monkeypatch: pytest.MonkeyPatch, rows: list[Ran], *, terminal: bool) -> bytes:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", (Terminal if terminal else io.TextIOWrapper)(raw, encoding="utf-8"))
    answers.folded(rows)
    sys.stdout.flush()
    return raw.getvalue()


def test_equal_answers_are_said_once_with_the_set_of_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    said = printed(monkeypatch, [ran(f"w{n}.snc1", b"up\n") for n in (1, 2, 3)], terminal=False)
    assert said == b"w[1-3].snc1 (3)  ok\n  up\n"


def test_what_went_wrong_comes_first_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [ran("a", b"fine\n"), ran("b", status="failed", exit=3, error="exit 3", stderr=b"no\n")]
    assert printed(monkeypatch, rows, terminal=False) == b"b  failed  exit 3\n  ! no\na  ok\n  fine\n"


def test_a_pipe_gets_the_very_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    data = b"\x1b[31m\xff\r\n" * 3
    assert printed(monkeypatch, [ran("a", data)], terminal=False) == b"a  ok\n" + b"  \x1b[31m\xff\r\n" * 3


def test_a_terminal_is_shown_control_characters_and_obeys_none(monkeypatch: pytest.MonkeyPatch) -> None:
    said = printed(monkeypatch, [ran("a", b"x\x1b]0;evil\x07y\rz\x00\n")], terminal=True)
    assert said == b"a  ok\n  x\\x1b]0;evil\\x07y\\x0dz\\x00\n"


def test_output_larger_than_a_piece_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    data = b"".join(b"%d\n" % n for n in range(400_000))
    said = printed(monkeypatch, [ran("a", data)], terminal=False)
    assert said == b"a  ok\n" + b"".join(b"  %d\n" % n for n in range(400_000))


def test_programs_get_replacement_characters_for_what_is_no_text() -> None:
    row = answers.exec_row(ran("a", b"caf\xc3\xa9 \xff\n"))
    assert json.loads(json.dumps(row))["stdout"] == "caf\u00e9 \ufffd\n"


def test_the_tally_names_every_word() -> None:
    assert answers.tally([ran("a"), ran("b", status="timeout"), ran("c")]) == "2 of 3 ok · 1 timeout"
