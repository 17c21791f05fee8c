"""Texts from hosts and files without what looks like a password or a token, before they are shown or handed on. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable

_NAME = r"passw(?:or)?d|passphrase|secret|token|api[_-]?key|routing[_-]?key|credential"
_WORD = rf"(?:[\w.-]*(?:{_NAME})[\w.-]*|(?:[\w.-]*[_.-])?(?:pwd|pass))"
# A value: in escaped quotes (JSON in a log line), in quotes, or up to where a value ends.
_SAID = r"(?P<open>\\+\")[^\"\\]*(?P<close>\\+\")|\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|[^\s,;&\"'\\]+"


def _in_its_quotes(found: re.Match[str]) -> str:
    """What is named secret; its quotes stay as they are, so that what was JSON stays JSON."""
    quote = found["said"][0] if found["said"][0] in "\"'" else ""
    return f"{found['name']}{found['open'] or quote}***{found['close'] or quote}"


_RULES: tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = (
    (re.compile(r"(?<=://)([^/@\s:\"']*):[^/\s\"']+@"), r"\1:***@"),
    (re.compile(rf"(?i)(\"{_WORD}\"\s*:\s*)(\"(?:[^\"\\]|\\.)*\"|[^\s,}}\]]+)"), r'\1"***"'),
    # after a name: `=`, `:`, Ruby's `=>`, the name in quotes or not, quotes escaped or not
    (re.compile(rf"(?i)(?<![\w.-])(?P<name>{_WORD}\\*[\"']?\s*(?:=>|[=:])\s*)(?P<said>{_SAID})"), _in_its_quotes),
    (re.compile(rf"(?i)(<{_WORD}(?:\s[^<>]*)?>)[^<]+(?=<)"), r"\1***"),
    (re.compile(r"(?i)\b((?:proxy-)?authorization\s*[:=]\s*)(?:(basic|bearer|token)\s+)?[^\s,;\"']+"), r"\1***"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[a-z0-9+/._~-]{8,}=*"), r"\1 ***"),
    (re.compile(r"(?i)(--?(?:password|passwd|pass|token|secret)[ =])\S+"), r"\1***"),
    (re.compile(r"(\bsshpass\s+-p\s*)\S+"), r"\1***"),
    (re.compile(r"(\s(?:-u|--user)[ =][^\s:/]+:)\S+"), r"\1***"),
    (re.compile(r"\beyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]*"), "*** token ***"),
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----", re.S), "*** private key ***"),
)


def mask(text: str) -> str:
    """The text without what looks like a password or a token: in URLs, after words for such, in headers, private keys."""
    for pattern, to in _RULES:
        text = pattern.sub(to, text)
    return text
