"""Texts from hosts and files without what looks like a password or a token, before they are shown or handed on. Pure."""

from __future__ import annotations

import re

_WORD = r"(?:[\w.-]*(?:passw(?:or)?d|passphrase|secret|token|api[_-]?key|routing[_-]?key|credential)[\w.-]*|pwd)"
_RULES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"(?<=://)([^/@\s:\"']*):[^/\s\"']+@"), r"\1:***@"),
    (re.compile(rf"(?i)(\"{_WORD}\"\s*:\s*)(\"(?:[^\"\\]|\\.)*\"|[^\s,}}\]]+)"), r'\1"***"'),
    (re.compile(rf"(?i)\b({_WORD}\s*[=:]\s*)(\"[^\"]*\"|'[^']*'|[^\s,;&\"']+)"), r"\1***"),
    (re.compile(r"(?i)\b((?:proxy-)?authorization\s*[:=]\s*)(?:(basic|bearer|token)\s+)?[^\s,;\"']+"), r"\1***"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[a-z0-9+/._~-]{8,}=*"), r"\1 ***"),
    (re.compile(r"(?i)(--?(?:password|passwd|token|secret)[ =])\S+"), r"\1***"),
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----", re.S), "*** private key ***"),
)


def mask(text: str) -> str:
    """The text without what looks like a password or a token: in URLs, after words for such, in headers, private keys."""
    for pattern, to in _RULES:
        text = pattern.sub(to, text)
    return text
