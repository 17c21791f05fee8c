"""What a request says, as plain values: JSON, queries, forms, names, times."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import BadRequest
from engine.params import (
    MAX_DEPTH,
    Params,
    as_count,
    as_time,
    as_uuid,
    read_form,
    read_json,
    read_request,
    snake,
    snake_keys,
)

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


@given(JSON)
def test_any_json_comes_through_unchanged(value: object) -> None:
    assert read_json(json.dumps(value).encode()) == value
    assert read_json(json.dumps(value, ensure_ascii=False).encode()) == value


@pytest.mark.parametrize(
    "text",
    [
        b"NaN",
        b"[Infinity]",
        b"-Infinity",
        b"1e999",
        b"{bad",
        b"",
        b"\xff",
        b'"\\ud800"',
        b'{"\\uDC00": 1}',
        b"1 2",
        b"9" * 5000,
    ],
)
def test_what_cannot_be_kept_is_refused(text: bytes) -> None:
    with pytest.raises(BadRequest):
        read_json(text)


def test_a_byte_order_mark_is_passed_over_and_a_number_without_end_is_named_in_our_words() -> None:
    assert read_json(b'\xef\xbb\xbf{"a": 1}') == {"a": 1}
    with pytest.raises(BadRequest, match=r"^The body holds a number of more than \d+ digits$"):
        read_json(b"[" + b"9" * 5000 + b"]")


def test_a_surrogate_pair_is_one_character() -> None:
    assert read_json(b'"\\ud83d\\ude00"') == "\U0001f600"


def test_a_hundred_levels_are_read_and_one_more_is_refused() -> None:
    read_json(nested(MAX_DEPTH))
    for depth in (MAX_DEPTH + 1, 10_000):
        with pytest.raises(BadRequest, match="nested deeper"):
            read_json(nested(depth))


def test_many_brackets_side_by_side_are_not_deep() -> None:
    assert len(read_json(b"[" + b",".join([b"[]"] * 5000) + b"]")) == 5000


@pytest.mark.parametrize(
    ("name", "expected"),
    [("firstName", "first_name"), ("HTTPServer", "http_server"), ("already_snake", "already_snake"), ("ID", "id"),
     ("$set", "$set"), ("a.b", "a.b"), ("", ""), ("some-key", "some-key"), ("version2Name", "version2_name")],
)  # fmt: skip
def test_names_are_snake_cased(name: str, expected: str) -> None:
    assert snake(name) == expected


def test_snake_casing_stops_at_what_belongs_to_the_client() -> None:
    given = {
        "workflowType": "x",
        "decisions": [{"clientData": {"aB": {"cD": 1}}, "metadata": {"eF": 2}, "firesAt": None}],
    }
    assert snake_keys(given) == {
        "workflow_type": "x",
        "decisions": [{"client_data": {"aB": {"cD": 1}}, "metadata": {"eF": 2}, "fires_at": None}],
    }


def test_keys_that_would_become_one_stay_apart() -> None:
    assert snake_keys({"aB": 1, "a_b": 2, "cD": 3}) == {"aB": 1, "a_b": 2, "c_d": 3}


def test_a_query_nests_as_rack_does_it() -> None:
    raw = b"name=a+b%26&subject[id]=1&subject[kind]=x&list[]=1&list[]=2&flag&name=last"
    assert read_form(raw) == {"name": "last", "subject": {"id": "1", "kind": "x"}, "list": ["1", "2"], "flag": ""}


def test_a_list_of_objects_begins_the_next_one_where_a_name_comes_again() -> None:
    raw = b"d[][name]=a&d[][options][x]=1&d[][options][y]=2&d[][name]=b&d[][tags][]=1&d[][tags][]=2"
    assert read_form(raw) == {
        "d": [{"name": "a", "options": {"x": "1", "y": "2"}}, {"name": "b", "tags": ["1", "2"]}],
    }


@pytest.mark.parametrize(
    "raw",
    [b"a=1&a[b]=2", b"a[]=1&a[b]=2", b"a[][]=1", b"%ff=1", b"a" + b"[b]" * 101 + b"=1", b"&".join([b"a=1"] * 1001)],
)
def test_a_query_that_cannot_be_meant_is_refused(raw: bytes) -> None:
    with pytest.raises(BadRequest):
        read_form(raw)


@given(st.binary(max_size=60))
def test_no_query_whatever_breaks_the_reader(raw: bytes) -> None:
    try:
        assert isinstance(read_form(raw), dict)
    except BadRequest:
        pass


@given(st.binary(max_size=60))
def test_no_body_whatever_breaks_the_reader(raw: bytes) -> None:
    try:
        assert isinstance(read_request(query=b"", body=raw, content_type="application/json"), dict)
    except BadRequest:
        pass


def test_the_body_wins_over_the_query_and_forms_are_read_too() -> None:
    assert read_request(query=b"a=1&b=2", body=b'{"b": 3}', content_type="application/json") == {"a": "1", "b": 3}
    form = read_request(
        query=b"", body=b"options[clientData][aB]=1", content_type="application/x-www-form-urlencoded; charset=utf-8"
    )
    assert form == {"options": {"client_data": {"aB": "1"}}}
    named = read_request(query=b"", body=b' {"a": [1]}', content_type="application/x-www-form-urlencoded")
    assert named == {"a": [1]}, "curl -d says so of whatever it sends"


@pytest.mark.parametrize("body", [b"[1]", b'"x"', b"3", b"true"])
def test_a_body_must_be_an_object(body: bytes) -> None:
    with pytest.raises(BadRequest, match="must be a JSON object"):
        read_request(query=b"", body=body, content_type="application/json")


@pytest.mark.parametrize(
    "text",
    ["2026-11-24T03:02:01.123Z", "2026-11-24T05:02:01.123+02:00", "2026-11-24T03:02:01.123", "2026-11-24 03:02:01.123 UTC",
     "2026-11-23 22:02:01.123 -0500"],
)  # fmt: skip
def test_times_are_milliseconds_whatever_the_zone(text: str) -> None:
    assert as_time(text, "fires_at") == 1795489321123


@pytest.mark.parametrize(
    "value", ["soon", "", "2026-13-01", 5, True, {}, "9999-99-99T00:00:00Z", "0001-01-01T00:00:00+14:00x"]
)
def test_what_is_no_time_is_refused(value: object) -> None:
    with pytest.raises(BadRequest, match="fires_at is not a time"):
        as_time(value, "fires_at")


def test_counts_take_digits_and_refuse_the_rest() -> None:
    assert [as_count(value, "retry") for value in (0, "7", 3.0)] == [0, 7, 3]
    for value in (-1, "x", 1.5, True, 10**12, "1" * 30, "٣", None):
        with pytest.raises(BadRequest):
            as_count(value, "retry")


def test_ids_are_lower_cased_uuids() -> None:
    assert as_uuid("0199ABCD-0000-7000-8000-0000000000AA", "id") == "0199abcd-0000-7000-8000-0000000000aa"
    for value in ("1", "", None, {"$gt": ""}, "0199abcd-0000-7000-8000-0000000000aa\n"):
        with pytest.raises(BadRequest):
            as_uuid(value, "id")


def test_an_object_where_a_text_is_due_is_refused() -> None:
    with pytest.raises(BadRequest, match="name must be a text"):
        Params({"name": {"$ne": None}}).need_text("name")
    with pytest.raises(BadRequest, match="name is missing"):
        Params({"name": None}).need_text("name")
