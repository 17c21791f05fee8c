"""The commented sample of an inventory, written from the same table that reads it: it cannot go out of date."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from bbctl.inventory.keys import INVENTORY
from bbctl.schema import Key, Kind, Leaf, Record, Table

HEADER = """\
# An inventory for bbctl. Keys behind a '#' show their default, or what they take.
# Check it with `bbctl config check`; `bbctl config schema` is for editors.
"""
_PLAIN = re.compile(r"[A-Za-z0-9/.][A-Za-z0-9/._-]*")


def inventory() -> str:
    """A whole inventory, valid as it stands."""
    lines = [HEADER.rstrip()]
    for name, key in INVENTORY.keys.items():
        lines += ["", f"# {key.doc[0].upper()}{key.doc[1:]}.", *_key(name, key, 0, doc=False)]
    return "\n".join(lines) + "\n"


def _key(name: str, key: Key, depth: int, *, doc: bool = True) -> Iterator[str]:
    pad = "  " * depth
    remark = f"  # {key.doc}" if doc else ""
    if key.sample is not None:
        yield from _given(name, key.sample, pad, remark)
        return
    body = list(_body(key.kind, depth + 1))
    if not body:
        yield f"{pad}# {name}: {key.default or key.example or _takes(key.kind)}{remark}"
    elif all(line.lstrip().startswith("#") for line in body):
        yield f"{pad}# {name}:{remark}"
        yield from body
    else:
        yield f"{pad}{name}:{remark}"
        yield from body


def _given(name: str, sample: Any, pad: str, remark: str) -> Iterator[str]:
    if isinstance(sample, dict):
        yield f"{pad}{name}:{remark}"
        for inner, value in sample.items():
            yield f"{pad}  {inner}: {_value(value)}"
    else:
        yield f"{pad}{name}: {_value(sample)}{remark}"


def _body(kind: Kind, depth: int) -> Iterator[str]:
    if isinstance(kind, Record):
        for name, key in kind.keys.items():
            yield from _key(name, key, depth)
    elif isinstance(kind, Table) and isinstance(kind.of, Record):
        yield f"{'  ' * depth}{kind.example}:"
        yield from _body(kind.of, depth + 1)
        for name, row in kind.more.items():
            yield from _given(name, row, "  " * depth, "")


def _takes(kind: Kind) -> str:
    if isinstance(kind, Leaf):
        return "…"
    return "{NAME: …}" if isinstance(kind, Table) else "[…]"


def _value(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_value(item) for item in value)}]"
    text = str(value)
    if _PLAIN.fullmatch(text):
        return text
    return f"'{text}'" if '"' in text and "'" not in text else json.dumps(text, ensure_ascii=False)
