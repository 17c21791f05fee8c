"""A Markdown page as one HTML file: what our runbook uses of Markdown, nothing more; anchors stay where they are."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from html import escape

_HEAD = """<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>
body{{font:16px/1.5 sans-serif;max-width:62em;margin:2em auto;padding:0 1em}}table{{border-collapse:collapse}}
td,th{{border:1px solid #bbb;padding:.3em .6em;text-align:left}}pre{{background:#f4f4f4;padding:.6em;overflow:auto}}</style>
"""
_INLINE = re.compile(
    r'`(?P<code>[^`]+)`|\[(?P<text>[^\]]+)\]\s?\((?P<url>[^)\s]+)\)|<a name="(?P<name>[^"]+)">(?P<title>[^<]*)</a>'
)
_ITEM = re.compile(r"(\s*)- (.*)")


def html(text: str) -> str:
    """The whole page. Text is escaped; only http(s) and # links become links."""
    lines = text.expandtabs(4).splitlines()
    title = next((line.lstrip("# ") for line in lines if line.startswith("#")), "Runbook")
    return _HEAD.format(title=escape(title)) + "\n".join(_blocks(lines)) + "\n"


def _blocks(lines: list[str]) -> Iterator[str]:
    at = 0
    while at < len(lines):
        line = lines[at]
        end = at + 1
        if not line.strip():
            pass
        elif line.startswith("#"):
            level = min(6, len(line) - len(line.lstrip("#")))
            yield f"<h{level}>{_inline(line.lstrip('# '))}</h{level}>"
        elif line.startswith("|"):
            end = _while(lines, at, lambda text: text.startswith("|"))
            yield _table(lines[at:end])
        elif _ITEM.match(line):
            end = _while(lines, at, lambda text: bool(_ITEM.match(text)))
            yield (
                "<ul>"
                + "".join(f"<li>{_inline(_ITEM.sub(lambda m: m[2], text))}</li>" for text in lines[at:end])
                + "</ul>"
            )
        elif line.startswith("    "):
            end = _while(lines, at, lambda text: text.startswith("    "))
            yield "<pre>" + escape("\n".join(text[4:] for text in lines[at:end])) + "</pre>"
        else:
            end = _while(lines, at, lambda text: bool(text.strip()) and text[0] not in "#|")
            yield f"<p>{_inline(' '.join(lines[at:end]))}</p>"
        at = end


def _while(lines: list[str], at: int, fits: Callable[[str], bool]) -> int:
    end = at + 1
    while end < len(lines) and fits(lines[end]):
        end += 1
    return end


def _table(lines: list[str]) -> str:
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]] for line in lines]
    body = [row for row in rows if not all(set(cell) <= set(":- ") for cell in row)]
    made = [
        "".join(f"<{tag}>{_inline(cell)}</{tag}>" for cell in row)
        for row, tag in zip(body, ["th"] + ["td"] * len(body), strict=False)
    ]
    return "<table>" + "".join(f"<tr>{row}</tr>" for row in made) + "</table>"


def _inline(text: str) -> str:
    parts, last = [], 0
    for found in _INLINE.finditer(text):
        parts += [escape(text[last : found.start()]), _mark(found)]
        last = found.end()
    return "".join(parts) + escape(text[last:])


def _mark(found: re.Match[str]) -> str:
    if found["code"]:
        return f"<code>{escape(found['code'])}</code>"
    if found["name"]:
        return f'<a id="{escape(found["name"])}" name="{escape(found["name"])}"><strong>{escape(found["title"])}</strong></a>'
    if not re.match(r"https?://|#", found["url"]):
        return escape(found["text"])
    return f'<a href="{escape(found["url"])}">{escape(found["text"])}</a>'
