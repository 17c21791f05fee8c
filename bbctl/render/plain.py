"""Records as JSON, YAML or bare names: for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any


def stamp(seconds: float | None) -> str | None:
    """Seconds since the epoch as `2026-11-24T03:02:58.123Z`; None stays None."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def write(text: str) -> None:
    """Text to stdout as UTF-8, whatever the locale; what has no UTF-8 form (lone surrogates) becomes U+FFFD."""
    sys.stdout.flush()
    data = text.encode("utf-8", "replace")
    stream = getattr(sys.stdout, "buffer", None)
    if stream is None:
        sys.stdout.write(text)
    else:
        stream.write(data)
    sys.stdout.flush()


def raw(data: bytes) -> None:
    """Bytes to stdout as they are."""
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.flush()


def line(value: Any) -> None:
    """One JSON line."""
    write(json.dumps(value, ensure_ascii=False, default=str) + "\n")


def emit(value: Any, output: str) -> None:
    """One JSON or YAML document."""
    if output == "yaml":
        write(_yaml(value, 0).lstrip("\n") + "\n")
    else:
        write(json.dumps(value, ensure_ascii=False, indent=2, default=str) + "\n")


def names(value: Any, key: str) -> None:
    """One name or id a line, each once."""
    rows: Iterable[Any] = value if isinstance(value, list) else [value]
    said = [f"{row.get(key) if isinstance(row, Mapping) else row}" for row in rows]
    write("".join(f"{name}\n" for name in dict.fromkeys(said)))


def _yaml(value: Any, depth: int) -> str:
    """Block YAML whose scalars are JSON: every YAML parser reads it, nothing is guessed."""
    pad = "  " * depth
    if isinstance(value, Mapping) and value:
        return "".join(f"\n{pad}{_key(k)}:{_yaml(v, depth + 1)}" for k, v in value.items())
    if isinstance(value, list | tuple) and value:
        return "".join(f"\n{pad}-{_item(v, depth + 1)}" for v in value)
    lead = " " if depth else ""
    return lead + json.dumps(value, ensure_ascii=False, default=str)


def _item(value: Any, depth: int) -> str:
    text = _yaml(value, depth)
    return " " + text.lstrip("\n").lstrip(" ") if text.startswith("\n") else text


def _key(key: Any) -> str:
    text = str(key)
    return text if text.replace("_", "").replace("-", "").isalnum() and not text[0].isdigit() else json.dumps(text)
