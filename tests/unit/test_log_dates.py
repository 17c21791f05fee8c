"""When was a line written: every form we promise, the zone, and text that is no date."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bbctl.remote.logs import Tail, Zone, lines, understand, written, zone_of

NOW = datetime(2026, 11, 24, 3, 7, 12, tzinfo=UTC).timestamp()
AT = datetime(2026, 11, 24, 3, 2, 58, tzinfo=UTC).timestamp()
HERE = Zone(zone=UTC, now=NOW)


@pytest.mark.parametrize(
    ("line", "fraction"),
    [
        ("2026-11-24 03:02:58,123 INFO  [org.x] (main) Stopping", 0.123),
        ("2026-11-24T03:02:58.123Z stopping", 0.123),
        ("2026-11-24T04:02:58.5+01:00 stopping", 0.5),
        ("2026/11/24 03:02:58 stopping", 0.0),
        ("[2026-11-24 03:02:58] stopping", 0.0),
        ("Nov 24 03:02:58 worker2 jboss: stopping", 0.0),
        ("<30>Nov 24 03:02:58 worker2 jboss: stopping", 0.0),
        ("03:02:58,123 INFO  [stdout] stopping", 0.123),
    ],
)
def test_a_date_is_read_in_every_form_we_promise(line: str, fraction: float) -> None:
    span = written(line, HERE)
    assert span is not None
    assert span[0] == pytest.approx(AT + fraction)
    assert span[0] <= span[1] <= span[0] + 1


def test_a_date_without_a_zone_is_read_in_the_log_s_own() -> None:
    berlin = Zone(zone=zone_of("Europe/Berlin", "+0000"), now=NOW)
    span = written("2026-11-24 04:02:58,000 x", berlin)
    assert span is not None
    assert span[0] == pytest.approx(AT)
    assert written("2026-11-24 03:02:58,000Z x", berlin) == written("2026-11-24 03:02:58,000Z x", HERE)


def test_the_host_s_offset_holds_where_no_zone_is_named_and_one_that_does_not_exist_is_an_error() -> None:
    assert zone_of(None, "-0330").utcoffset(None) == zone_of("-03:30", "").utcoffset(None)
    with pytest.raises(ValueError, match="no time zone"):
        zone_of("Mars/Base", "+0000")


def test_a_date_without_a_year_is_the_last_such_day_and_a_time_alone_the_last_such_time() -> None:
    new_year = Zone(zone=UTC, now=datetime(2027, 1, 2, tzinfo=UTC).timestamp())
    span = written("Dec 31 23:59:59 x", new_year)
    assert span is not None
    assert datetime.fromtimestamp(span[0], UTC).year == 2026
    span = written("23:59:59,000 x", Zone(zone=UTC, now=NOW))
    assert span is not None
    assert datetime.fromtimestamp(span[0], UTC).day == 23


def test_a_service_s_own_form_of_date_is_found_in_the_line() -> None:
    span = written("INFO 24.11.2026 03:02:58 stopping", Zone(zone=UTC, now=NOW, form="%d.%m.%Y %H:%M:%S"))
    assert span is not None
    assert span[0] == pytest.approx(AT)


@pytest.mark.parametrize(
    "line", ["", "\tat a.B.c(B.java:42)", "2026-13-45 99:99:99 x", "Foo 24 03:02:58", "12:99:00 x"]
)
def test_what_is_no_date_is_none(line: str) -> None:
    assert written(line, HERE) is None


@given(st.text(max_size=120))
def test_no_text_makes_it_raise(line: str) -> None:
    written(line, HERE)
    written(line, Zone(zone=UTC, now=NOW, form="%d/%b/%Y:%H:%M:%S"))


def test_a_line_without_a_date_was_written_with_the_one_before_and_a_cut_first_line_is_left_out() -> None:
    data = b"st of a line\n2026-11-24 03:02:58,000 ERROR x\n\tat a.B.c\nnot whole"
    found = lines(Tail(state="ok", start=100, size=999, data=data), HERE)
    assert [(x.text, x.dated, x.offset) for x in found] == [
        ("2026-11-24 03:02:58,000 ERROR x", True, 113),
        ("\tat a.B.c", False, 145),
    ]
    assert found[1].latest == found[0].latest


def test_the_answer_of_a_host_is_a_tail_whose_place_is_known() -> None:
    got = understand(b"log 50 60 7 8 1700000000\n0123456789")
    assert (got.state, got.start, got.size, got.end, got.file) == ("ok", 50, 60, 60, "8:7")
    assert understand(b"log missing\n").state == "missing"
    assert understand(b"sudo: a password is required\n").state == "denied"
