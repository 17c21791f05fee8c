"""Files in YAML: what is refused, where, and how fast."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bbctl.errors import ConfigError
from bbctl.yamlfile import MAX_BYTES, Map, Scalar, Seq, load, parse

HOSTILE = {
    "10,000 flow levels": "[" * 10_000,
    "10,000 block levels": "- " * 10_000 + "x",
    "10,000 map levels": "{a: " * 10_000,
    "an alias bomb": "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n",
    "an object": "a: !!python/object/apply:os.system [id]",
    "half a million values": "[" + "a," * 450_000 + "]",
    "a million quotes": '"' * 900_000,
    "anchors without end": "&a " * 200_000,
    "two documents": "a: 1\n---\nb: 2\n",
    "a list as key": "? [a]\n: b\n",
    "a NUL by escape": 'a: "\\0"',
    "an escape sequence": 'a: "\\e[2J"',
    "a raw control character": "a: \x1b[2J",
    "an undefined alias": "a: *b",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_yaml_is_refused_with_its_line_and_soon(text: str) -> None:
    began = time.process_time()
    with pytest.raises(ConfigError, match=r"^file\.yml:\d+: "):
        parse(text, "file.yml")
    assert time.process_time() - began < 5  # of work, however busy the machine; it takes a quarter of a second


def test_every_scalar_stays_the_text_that_was_written() -> None:
    root = parse("a: NO\nb: 010\nc: 22:22\nd: 1e3\ne: ~\nf: 'true'\n", "f")
    assert isinstance(root, Map)
    assert [node.text for node in root.items.values() if isinstance(node, Scalar)] == [
        "NO",
        "010",
        "22:22",
        "1e3",
        "~",
        "true",
    ]


def test_nodes_know_their_lines() -> None:
    root = parse("a: 1\nb:\n  - x\n  - {c: d}\n", "f")
    assert isinstance(root, Map)
    items = root.items["b"]
    assert isinstance(items, Seq)
    assert [node.line for node in items.items] == [3, 4]
    assert root.lines == {"a": 1, "b": 2}


def test_a_duplicate_key_is_refused_and_both_lines_are_named() -> None:
    with pytest.raises(ConfigError, match=r'^f:3: duplicate key "a", first on line 1$'):
        parse("a: 1\nb: 2\na: 3\n", "f")


def test_an_empty_file_is_an_empty_map() -> None:
    assert parse("# nothing\n", "f") == Map("f", 1, {}, {})


def test_a_file_over_a_megabyte_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "big.yml"
    path.write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(ConfigError, match="larger than 1 MB"):
        load(path)


@pytest.mark.parametrize("mode", [0o666, 0o646, 0o622])
def test_a_file_that_others_may_write_to_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "f.yml"
    path.write_text("site: x\n")
    path.chmod(mode)
    with pytest.raises(ConfigError, match=r"f\.yml:1: others may write") as caught:
        load(path)
    assert caught.value.next == f"chmod go-w {path}"


def test_a_fifo_is_refused_and_not_waited_for_and_a_folder_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "f.yml")
    for path in (tmp_path / "f.yml", tmp_path, Path("/dev/zero")):
        with pytest.raises(ConfigError, match="not a regular file"):
            load(path)


def test_a_path_that_is_no_path_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "missing", tmp_path / "a\0b", tmp_path / ("x" * 300)):
        with pytest.raises(ConfigError, match="cannot be read"):
            load(path)


def test_a_file_that_is_no_utf_8_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "f.yml"
    path.write_bytes(b"a: 1\nb: \xff\n")
    path.chmod(0o600)
    with pytest.raises(ConfigError, match=r"f\.yml:2: not UTF-8"):
        load(path)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=200) | st.text(alphabet="ab:-[]{},&*!|>'\"%@ \n\t#?0", max_size=80))
def test_no_text_gives_anything_but_nodes_or_a_complaint_with_its_line(text: str) -> None:
    said = None
    try:
        parse(text, "f")
    except ConfigError as error:
        said = error.message
    assert said is None or re.match(r"f:[1-9][0-9]*: .", said)
