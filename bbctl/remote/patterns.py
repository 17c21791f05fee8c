"""Do the patterns of an inventory fit the real logs? Counted there, in the log and what it was rotated to in 30 days.

A wrong `stopped` turns a slow clean stop into a kill -9, a wrong `started` fails every restart: better found on a quiet day.
"""

from __future__ import annotations

from collections.abc import Mapping

from bbctl.remote.shell import quote

DAYS = 30
SECONDS = 20  # for one pattern over all files of a host

# PCRE is nearest to the regexes we judge with; a grep without it counts nothing rather than something else.
_COUNT = """
find {folder} -maxdepth 1 -type f -name {name} -mtime -{days} -exec sh -c '
for f; do case $f in *.gz) gzip -dc -- "$f";; *) cat -- "$f";; esac; done' x {{}} + 2>/dev/null |
timeout {seconds} grep -a -c -i -P -e {pattern}
"""


def count(log: str, patterns: Mapping[str, str]) -> dict[str, str]:
    """Parts of shell text by the patterns' names, for `sections.together`; each prints how many lines fit."""
    folder, _, name = log.rpartition("/")
    glob = "".join(f"\\{c}" if c in "*?[\\" else c for c in name) + "*"
    return {
        key: _COUNT.format(
            folder=quote(folder or "/"), name=quote(glob), days=DAYS, seconds=SECONDS, pattern=quote(pattern)
        )
        for key, pattern in patterns.items()
    }


def understand(answer: bytes) -> int | None:
    """How many lines, or None where they could not be counted."""
    text = answer.strip()
    return int(text) if text.isdigit() else None
