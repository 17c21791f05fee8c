"""Do the patterns of an inventory fit the real logs? Counted there, in the log and what it was rotated to in 30 days.

A wrong `stopped` turns a slow clean stop into a kill -9, a wrong `started` fails every restart: better found on a quiet day.
"""

from __future__ import annotations

from collections.abc import Mapping

from bbctl.remote.shell import as_user, join, quote

DAYS = 30
SECONDS = 20  # for one pattern over all files of a host

# PCRE is nearest to the regexes we judge with; a grep without it counts nothing rather than something else.
# What may not be read is not counted either: no number is better than a wrong one.
_COUNT = """
set --
if [ ! -r {log} ] && {become}; then set -- {words}; fi
if [ $# -eq 0 ] && [ ! -r {log} ] && {{ [ -e {log} ] || [ ! -x {folder} ]; }}; then echo denied; else
"$@" find {folder} -maxdepth 1 -type f -name {name} -mtime -{days} -exec sh -c '
for f; do case $f in *.gz) gzip -dc -- "$f";; *) cat -- "$f";; esac; done' x {{}} + 2>/dev/null |
timeout {seconds} grep -a -c {most}-i -P -e {pattern}
fi
"""


def count(
    log: str, patterns: Mapping[str, str], *, run_as: str | None = None, seconds: int = SECONDS, first: bool = False
) -> dict[str, str]:
    """Parts of shell text by the patterns' names, for `sections.together`; each prints how many lines fit (`first`: 1 at the
    first of them), or nothing where `seconds` were not enough. Read as `run_as` where the login user may not."""
    folder, _, name = log.rpartition("/")
    glob = "".join(f"\\{c}" if c in "*?[\\" else c for c in name) + "*"
    proof = ("find", log, "-maxdepth", "0", "-readable")  # by the command that would read it: sudo may allow but some
    return {
        key: _COUNT.format(
            log=quote(log),
            become="false" if run_as is None else f'[ -n "$({join(as_user(run_as, proof))} 2>/dev/null)" ]',
            words="" if run_as is None else join(as_user(run_as, ())),
            folder=quote(folder or "/"),
            name=quote(glob),
            days=DAYS,
            seconds=seconds,
            most="-m 1 " if first else "",
            pattern=quote(pattern),
        )
        for key, pattern in patterns.items()
    }


def understand(answer: bytes) -> int | None:
    """How many lines, or None where they could not be counted."""
    text = answer.strip()
    return int(text) if text.isdigit() else None
