"""What a request says: bytes of a query, a form or a JSON body become plain values, and plain values typed ones.

Pure. Every refusal is a `BadRequest` that names the parameter, so whatever a client sends is answered below 500.
Names are snake_cased on the way in, so camelCase is accepted everywhere; what belongs to the client (`client_data`,
`metadata`) is left exactly as it came.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote_to_bytes

from engine.errors import BadRequest

MAX_DEPTH = 100
MAX_PAIRS = 1000  # parameters in one query or form
KEPT = frozenset({"client_data", "metadata"})  # inside these the keys are the client's own
LIMITS = {
    "retry": 1_000_000,
    "retry_interval": 315_360_000,
    "per_page": 1000,
    "page": 100_000,
}  # ten years; else any count
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")

_ACRONYM = re.compile(r"([A-Z\d]+)([A-Z][a-z])")
_CAPITAL = re.compile(r"[A-Z]")
_HUMP = re.compile(r"([a-z\d])([A-Z])")
_BRACKETS = re.compile(r"\[([^\]\[]*)\]")
_NESTING = re.compile(rb"[\[{]")


# -- JSON --------------------------------------------------------------------------------------------------------


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise BadRequest("body", f"The number {text[:40]} is too large")
    return number


def _refuse_constant(text: str) -> Any:
    raise BadRequest("body", f"{text} is not JSON")


def read_json(raw: bytes, field: str = "body") -> Any:
    """The value of a JSON text; a byte order mark before it is passed over. Refused: text that is no UTF-8 or no JSON,
    NaN and infinities, whole numbers of thousands of digits, lone surrogates (they cannot be stored), and anything
    nested deeper than `MAX_DEPTH`."""
    try:
        value = json.loads(raw.decode("utf-8-sig"), parse_float=_finite, parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise BadRequest(field, f"The {field} is not UTF-8 (byte {error.start})") from None
    except RecursionError:
        raise BadRequest(field, f"The {field} is nested deeper than {MAX_DEPTH} levels") from None
    except json.JSONDecodeError as error:
        raise BadRequest(field, f"The {field} is not JSON: {error}") from None
    except ValueError:
        digits = sys.get_int_max_str_digits()
        raise BadRequest(field, f"The {field} holds a number of more than {digits} digits") from None
    if len(_NESTING.findall(raw)) > MAX_DEPTH and _depth(value) > MAX_DEPTH:
        raise BadRequest(field, f"The {field} is nested deeper than {MAX_DEPTH} levels")
    if rb"\ud" in raw or rb"\uD" in raw:
        _refuse_surrogates(value, field)
    return value


def _depth(value: Any) -> int:
    """Levels of objects and lists, without recursion: the value may be far deeper than the stack."""
    levels, here = 0, [value]
    while here := [item for item in here if isinstance(item, dict | list)]:
        levels += 1
        here = [child for item in here for child in (item.values() if isinstance(item, dict) else item)]
    return levels


def _refuse_surrogates(value: Any, field: str) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise BadRequest(field, f"The {field} holds half of a surrogate pair") from None


# -- names -------------------------------------------------------------------------------------------------------


def snake(name: str) -> str:
    """`firstName` → `first_name`, `HTTPServer` → `http_server`; a name without capitals stays as it is."""
    if not _CAPITAL.search(name):
        return name
    return _CAPITAL.sub(lambda capital: capital[0].lower(), _HUMP.sub(r"\1_\2", _ACRONYM.sub(r"\1_\2", name)))


def snake_keys(value: Any) -> Any:
    """The keys of all objects snake_cased, except below `client_data` and `metadata`. Where two keys would become one,
    both stay as they are: nothing a client sent is lost."""
    if isinstance(value, list):
        return [snake_keys(item) for item in value]
    if not isinstance(value, dict):
        return value
    named = {key: snake(key) for key in value}
    counts: dict[str, int] = {}
    for name in named.values():
        counts[name] = counts.get(name, 0) + 1
    result = {}
    for key, item in value.items():
        name = named[key] if counts[named[key]] == 1 else key
        result[name] = item if name in KEPT else snake_keys(item)
    return result


# -- queries and forms -------------------------------------------------------------------------------------------


def read_form(raw: bytes, field: str = "query") -> dict[str, Any]:
    """`a=1&b[c]=2&d[]=3` → {"a": "1", "b": {"c": "2"}, "d": ["3"]}, nested as Rack does it; the last of two equal wins."""
    result: dict[str, Any] = {}
    pairs = [pair for pair in raw.split(b"&") if pair]
    if len(pairs) > MAX_PAIRS:
        raise BadRequest(field, f"The {field} has more than {MAX_PAIRS} parameters")
    for pair in pairs:
        name, _, value = pair.partition(b"=")
        _put(result, _text(name, field), _text(value, field), field)
    return result


def _text(raw: bytes, field: str) -> str:
    try:
        return unquote_to_bytes(raw.replace(b"+", b" ")).decode("utf-8")
    except UnicodeDecodeError:
        raise BadRequest(field, f"The {field} is not UTF-8") from None


def _put(target: dict[str, Any], name: str, value: str, field: str) -> None:
    start = name.find("[", 1)
    keys = [name] if start < 0 else [name[:start], *_BRACKETS.findall(name[start:])]
    if len(keys) > MAX_DEPTH:
        raise BadRequest(field, f"The {field} is nested deeper than {MAX_DEPTH} levels")
    holder: Any = target
    for place, (key, after) in enumerate(zip(keys, [*keys[1:], None], strict=True)):
        empty: Any = value if after is None else [] if after == "" else {}
        if isinstance(holder, list):
            if key != "" or after == "":
                raise BadRequest(name, f"Cannot read the parameter {name[:80]}")
            if after is None:
                holder.append(value)
                return
            if not holder or not isinstance(holder[-1], dict) or _has(holder[-1], keys[place + 1 :]):
                holder.append({})  # a name that comes again begins the next one
            holder = holder[-1]
            continue
        if after is None:
            holder[key] = value
            return
        holder = holder.setdefault(key, empty)
        if not isinstance(holder, type(empty)):
            raise BadRequest(name, f"Cannot read the parameter {name[:80]}")


def _has(value: Any, path: list[str]) -> bool:
    for key in path:
        if not isinstance(value, dict) or key not in value:
            return False
        value = value[key]
    return True


def read_request(*, query: bytes, body: bytes, content_type: str) -> dict[str, Any]:
    """All parameters of a request, snake_cased; the body wins over the query. A body must be a JSON object or a form; an
    object that is called a form, as `curl -d` does, is an object all the same."""
    values = read_form(query) if query else {}
    if body.strip():
        if content_type.startswith("application/x-www-form-urlencoded") and not body.lstrip().startswith(b"{"):
            given: Any = read_form(body, "body")
        else:
            given = read_json(body)
        if given is not None and not isinstance(given, dict):
            raise BadRequest("body", "The body must be a JSON object")
        values = {**values, **(given or {})}
    snaked: dict[str, Any] = snake_keys(values)
    return snaked


# -- typed reads -------------------------------------------------------------------------------------------------


def as_uuid(value: Any, field: str) -> str:
    text = value.lower() if isinstance(value, str) else ""
    if not UUID.fullmatch(text):
        raise BadRequest(field, f"{field} is not a uuid: {_shown(value)}")
    return text


def as_time(value: Any, field: str) -> int:
    """Milliseconds since the epoch. ISO 8601 as clients write it, also with a blank and `UTC`; without a zone it is UTC."""
    if isinstance(value, str):
        text = value.strip().replace(" UTC", "Z")
        text = re.sub(r"^(\S+) (\S+) ([+-]\d\d:?\d\d)$", r"\1T\2\3", text)
        try:
            moment = datetime.fromisoformat(text)
            moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            return math.floor(moment.timestamp() * 1000)
        except (ValueError, OverflowError):
            pass
    raise BadRequest(field, f"{field} is not a time: {_shown(value)}")


def as_count(value: Any, field: str) -> int:
    """A whole number from 0 to the limit of its kind; digits in a string will do, as forms send them."""
    if isinstance(value, str) and re.fullmatch(r"\d{1,18}", value, re.ASCII):
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    limit = LIMITS.get(field, 2**53)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= limit:
        raise BadRequest(field, f"{field} must be a whole number from 0 to {limit}: {_shown(value)}")
    return value


def as_text(value: Any, field: str) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value:
        raise BadRequest(field, f"{field} must be a text that is not empty: {_shown(value)}")
    return value


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=True) if not isinstance(value, str) else value
    return text if len(text) <= 80 else text[:79] + "…"


@dataclass(frozen=True)
class Params:
    """The parameters of one request, snake_cased. A value that is null counts as not given."""

    values: Mapping[str, Any]

    def get(self, name: str) -> Any:
        return self.values.get(name)

    def text(self, name: str) -> str | None:
        value = self.values.get(name)
        return None if value is None else as_text(value, name)

    def need_text(self, name: str) -> str:
        value = self.text(name)
        if value is None:
            raise BadRequest(name, f"{name} is missing")
        return value

    def uuid(self, name: str) -> str | None:
        value = self.values.get(name)
        return None if value is None else as_uuid(value, name)

    def time(self, name: str) -> int | None:
        value = self.values.get(name)
        return None if value is None else as_time(value, name)

    def count(self, name: str, default: int) -> int:
        value = self.values.get(name)
        return default if value is None else as_count(value, name)

    def word(self, name: str, words: frozenset[str]) -> str | None:
        value = self.text(name)
        if value is not None and value not in words:
            raise BadRequest(name, f"{name} must be one of {', '.join(sorted(words))}: {_shown(value)}")
        return value
