"""What a file may say, as data: keys with kind, default and meaning. One table drives reading, messages, JSON Schema and sample.

A kind decides what a scalar means by where it stands. `read` turns nodes into plain values (dicts, lists, str, int,
float, Path) or what a record's `build` makes of them, and raises ConfigError with file, line and the nearest valid key.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bbctl.durations import DURATION, parse_duration
from bbctl.near import hint, shown
from bbctl.yamlfile import Map, Node, Scalar, Seq

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
NAME_EXPECTED = "a name (lower-case letters, digits, '.', '_', '-'; at most 63, beginning with a letter or digit)"
PLACEHOLDER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
MAX_REGEX = 1000

# -- kinds -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Leaf:
    """A scalar. `read` raises ValueError saying what was expected; `path`: relative to the file, `~` expanded."""

    what: str
    read: Callable[[str], Any]
    json: Mapping[str, Any]
    regex: bool = False
    secret: bool = False
    path: bool = False


@dataclass(frozen=True, kw_only=True)
class Many:
    """A list of one kind. `word`: one string may stand for a list (split at commas outside braces by its consumer)."""

    of: Leaf
    what: str
    word: bool = False
    least: int = 0


@dataclass(frozen=True, kw_only=True)
class Key:
    """`default`, `sample` and `example` are written as in the file; `sample` None: the sample shows the key commented out,
    with its default or `example`."""

    kind: Kind
    doc: str
    default: str | None = None
    required: bool = False
    sample: Any = None
    example: str | None = None
    templated: bool = False  # `{name}` inside is replaced for each host


@dataclass(frozen=True, kw_only=True)
class Record:
    """A map with known keys. `check` sees the node and what was read, before `build` makes a record of it."""

    what: str
    keys: Mapping[str, Key]
    build: Callable[..., Any] | None = None
    rename: Mapping[str, str] | None = None
    check: Callable[[Map, Mapping[str, Any]], None] | None = None
    least: int = 0


@dataclass(frozen=True, kw_only=True)
class Table:
    """A map from names of the file's own choosing to one kind."""

    what: str
    of: Kind
    name: re.Pattern[str] = NAME
    name_expected: str = NAME_EXPECTED
    empty_ok: bool = False  # `worker1:` with nothing behind it is a row
    example: str = "NAME"  # the one row of the sample that shows every key
    more: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # further rows of the sample


Kind = Leaf | Many | Record | Table


# -- reading scalars ---------------------------------------------------------------------------------------------


def one_of(*words: str) -> Leaf:
    def read(text: str) -> str:
        if text not in words:
            raise ValueError(f"expected {', '.join(words[:-1])} or {words[-1]}{hint(text, words)}")
        return text

    return Leaf(what=" | ".join(words), read=read, json={"enum": list(words)})


def whole(least: int, most: int) -> Leaf:
    """Digits, without sign, leading zero or other base."""

    def read(text: str) -> int:
        if not re.fullmatch(r"0|[1-9][0-9]{0,11}", text) or not least <= int(text) <= most:
            raise ValueError(f"expected digits, {least} to {most}")
        return int(text)

    digits = {"type": "string", "pattern": "^(0|[1-9][0-9]*)$"}
    return Leaf(
        what=f"{least} to {most}",
        read=read,
        json={"oneOf": [{"type": "integer", "minimum": least, "maximum": most}, digits]},
    )


def matching(pattern: re.Pattern[str], expected: str, *, secret: bool = False) -> Leaf:
    def read(text: str) -> str:
        if not pattern.fullmatch(text):
            raise ValueError(f"expected {expected}")
        return text

    return Leaf(what=expected, read=read, json={"type": "string", "pattern": f"^(?:{pattern.pattern})$"}, secret=secret)


def _regex(text: str) -> str:
    if len(text) > MAX_REGEX:
        raise ValueError(f"a regular expression of more than {MAX_REGEX} characters")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            re.compile(text)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from None
    except (OverflowError, RecursionError):
        raise ValueError("not a regular expression: too deep or too large") from None
    return text


_STRING = {"type": "string", "minLength": 1}
_ANY = {"type": ["string", "number", "boolean"]}  # whatever a general parser makes of it, it is read as text
TEXT = Leaf(what="text", read=str, json=_ANY)
SECRET = Leaf(what="text (secret)", read=str, json=_STRING, secret=True)
FILE = Leaf(what="path", read=str, json=_STRING, path=True)
REGEX = Leaf(what="regular expression, searched, ignoring case", read=_regex, json=_STRING, regex=True)
DURATION_LEAF = Leaf(what="duration", read=parse_duration, json={"type": "string", "pattern": f"^{DURATION}$"})
NAME_LEAF = matching(NAME, NAME_EXPECTED)
PORT = whole(1, 65535)

# -- reading nodes -----------------------------------------------------------------------------------------------


def read(node: Node, kind: Kind, *, where: str = "", templates: bool = False) -> Any:
    """What `node` says. `where` names it in messages; `templates`: scalars with a `{name}` in them are left for later."""
    if isinstance(kind, Leaf):
        return _read_leaf(node, kind, where, templates)
    if isinstance(kind, Many):
        return _read_many(node, kind, where, templates)
    if isinstance(kind, Table):
        return _read_table(node, kind, where, templates)
    return _read_record(node, kind, where, templates)


def _read_leaf(node: Node, kind: Leaf, where: str, templates: bool) -> Any:
    if not isinstance(node, Scalar):
        raise node.error(f"{where}: expected {kind.what}, found {_found(node)}")
    if node.text == "":
        raise node.error(f"{where}: a value is missing, expected {kind.what}")
    if templates and PLACEHOLDER.search(node.text):
        return node.text
    try:
        value = kind.read(node.text)
    except ValueError as error:
        said = "" if kind.secret else f"{shown(node.text)} is wrong, "
        raise node.error(f"{where}: {said}{error}") from None
    return local_path(node.source, value) if kind.path else value


def _read_many(node: Node, kind: Many, where: str, templates: bool) -> Any:
    if kind.word and isinstance(node, Scalar) and not node.empty:
        return [_read_leaf(node, kind.of, where, templates)]
    if not isinstance(node, Seq):
        raise node.error(f"{where}: expected {kind.what}, found {_found(node)}")
    if len(node.items) < kind.least:
        raise node.error(f"{where}: expected {kind.what}, found an empty list")
    return [_read_leaf(item, kind.of, where, templates) for item in node.items]


def _read_table(node: Node, kind: Table, where: str, templates: bool) -> Any:
    rows = as_map(node, kind.what, where)
    result: dict[str, Any] = {}
    for name, item in rows.items.items():
        if not kind.name.fullmatch(name):
            raise item.error(f"{where}: {shown(name)} is not {kind.name_expected}", line=rows.lines[name])
        result[name] = read(item, kind.of, where=f"{where}.{name}".lstrip("."), templates=templates)
    return result


def _read_record(node: Node, kind: Record, where: str, templates: bool) -> Any:
    rows = as_map(node, kind.what, where)
    for name in rows.items:
        if name not in kind.keys:
            place = f" in {where}" if where else ""
            valid = hint(name, kind.keys) or f": valid are {', '.join(kind.keys)}"
            raise rows.error(f"unknown key {shown(name)}{place}{valid}", line=rows.lines[name])
    result: dict[str, Any] = {}
    for name, key in kind.keys.items():
        inner = f"{where}.{name}".lstrip(".")
        if name in rows.items:
            result[name] = read(rows.items[name], key.kind, where=inner, templates=templates or key.templated)
        elif key.required:
            raise rows.error(f"{where}: the key {name} is missing".removeprefix(": "))
        elif key.default is not None:
            result[name] = read(Scalar(rows.source, rows.line, key.default, False), key.kind, where=inner)
    if len(rows.items) < kind.least:
        raise rows.error(f"{where}: at least {kind.least} of {', '.join(kind.keys)} is needed")
    if kind.check is not None:
        kind.check(rows, result)
    if kind.build is None or templates:
        return result
    rename = kind.rename or {}
    return kind.build(**{rename.get(name, name): _tuple(value) for name, value in result.items()})


def as_map(node: Node, what: str, where: str) -> Map:
    """`node` as a map; nothing written is an empty one."""
    if isinstance(node, Map):
        return node
    if isinstance(node, Scalar) and node.empty:
        return Map(node.source, node.line, {}, {})
    raise node.error(f"{where or 'the file'}: expected {what}, found {_found(node)}".lstrip(": "))


def local_path(source: str, text: str) -> Path:
    """A path on this machine: relative to the file it stands in, `~` expanded."""
    path = Path(text)
    try:
        path = path.expanduser()
    except RuntimeError:  # an unknown ~user stays as it is, and is reported where the file is opened
        pass
    return path if path.is_absolute() else Path(source).parent.absolute() / path


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _found(node: Node) -> str:
    if isinstance(node, Scalar):
        return "nothing" if node.empty else "a single value"
    return "a list" if isinstance(node, Seq) else "a map"


# -- placeholders ------------------------------------------------------------------------------------------------


def fill(node: Node, kind: Kind | None, values: Mapping[str, str]) -> Node:
    """`node` with every `{name}` replaced, each staying inside its own string; in a regex the value is escaped.

    Braces that are no known name stay in a regex and are an error elsewhere (ConfigError).
    """
    if isinstance(node, Scalar):
        if "{" not in node.text and "}" not in node.text:
            return node
        regex = isinstance(kind, Leaf) and kind.regex
        return Scalar(node.source, node.line, _fill_text(node, values, regex), node.plain)
    if isinstance(node, Seq):
        of = kind.of if isinstance(kind, Many) else None
        return Seq(node.source, node.line, tuple(fill(item, of, values) for item in node.items))
    if isinstance(node, Map):
        items = {name: fill(item, _kind_of(kind, name), values) for name, item in node.items.items()}
        return Map(node.source, node.line, items, node.lines)
    return node


def has_braces(node: Node) -> bool:
    return any("{" in leaf.text or "}" in leaf.text for leaf in scalars(node))


def scalars(node: Node) -> Iterator[Scalar]:
    if isinstance(node, Scalar):
        yield node
    elif isinstance(node, Seq):
        for item in node.items:
            yield from scalars(item)
    elif isinstance(node, Map):
        for item in node.items.values():
            yield from scalars(item)


def _kind_of(kind: Kind | None, name: str) -> Kind | None:
    if isinstance(kind, Record):
        return kind.keys[name].kind if name in kind.keys else None
    return kind.of if isinstance(kind, Table) else None


def _fill_text(node: Scalar, values: Mapping[str, str], regex: bool) -> str:
    def replace(found: re.Match[str]) -> str:
        name = found[1]
        if name in values:
            return re.escape(values[name]) if regex else values[name]
        if regex:
            return found[0]
        known = hint(name, values) or f": known are {', '.join(f'{{{word}}}' for word in values) or 'none'}"
        raise node.error(f"unknown placeholder {{{name}}}{known}")

    if not regex and re.search(r"[{}]", PLACEHOLDER.sub("", node.text)):
        raise node.error(f"{shown(node.text)}: braces may only enclose a name, as in {{name}}")
    return PLACEHOLDER.sub(replace, node.text)


# -- the table as JSON Schema ------------------------------------------------------------------------------------


def json_schema(kind: Kind) -> dict[str, Any]:
    """JSON Schema (2020-12) of a kind."""
    if isinstance(kind, Leaf):
        return dict(kind.json)
    if isinstance(kind, Many):
        many: dict[str, Any] = {"type": "array", "items": json_schema(kind.of), "minItems": kind.least}
        return {"oneOf": [json_schema(kind.of), many]} if kind.word else many
    if isinstance(kind, Table):
        rows = json_schema(kind.of)
        if kind.empty_ok:
            rows = {"oneOf": [rows, {"type": "null"}]}
        return {
            "type": "object", "description": kind.what, "additionalProperties": rows,
            "propertyNames": {"pattern": f"^(?:{kind.name.pattern})$"},
        }  # fmt: skip
    keys = {name: _described(key) for name, key in kind.keys.items()}
    schema: dict[str, Any] = {"type": "object", "additionalProperties": False, "properties": keys}
    if required := [name for name, key in kind.keys.items() if key.required]:
        schema["required"] = required
    if kind.least:
        schema["minProperties"] = kind.least
    return schema


def _described(key: Key) -> dict[str, Any]:
    schema = json_schema(key.kind) | {"description": key.doc}
    if key.default is not None:
        schema["default"] = key.default
    return schema
