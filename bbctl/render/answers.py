"""What hosts answered: ping, exec and host keys. Equal answers are said once, with the set of hosts that gave them."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bbctl.model import Ran
from bbctl.ranges import fold
from bbctl.render import plain
from bbctl.render.inventory import columns
from bbctl.render.screen import out, safe

READ = 256 * 1024  # bytes of one host's stream that a terminal shows
PIECE = 1 << 20


def ping_row(ran: Ran) -> dict[str, Any]:
    return {"host": ran.host, "status": ran.status, "seconds": round(ran.seconds, 3), "error": ran.error}


def exec_row(ran: Ran) -> dict[str, Any]:
    """The record of one command on one host as programs get it; bytes that are no UTF-8 become U+FFFD."""
    return {
        "host": ran.host,
        "status": ran.status,
        "exit": ran.exit,
        "stdout": ran.out,
        "stderr": ran.err,
        "seconds": round(ran.seconds, 3),
        "error": ran.error,
        "signal": ran.signal,
        "cut": ran.cut,
    }


def ping(rows: Sequence[Ran]) -> str:
    return columns((r.host, r.status, f"{r.seconds:.2f}s", r.error or "") for r in rows)


def folded(rows: Iterable[Ran]) -> None:
    """Print one block for each different answer, what went wrong first: whose it is, how it ended, what it said.

    On a terminal the output is made harmless and cut where nobody reads on; a file or a pipe gets its very bytes.
    """
    groups: dict[tuple[Any, ...], list[Ran]] = {}
    for ran in rows:
        groups.setdefault((ran.status, ran.error, ran.stdout, ran.stderr, ran.cut), []).append(ran)
    for group in sorted(groups.values(), key=lambda group: (group[0].status == "ok", -len(group))):
        one, many = group[0], f" ({len(group)})" if len(group) > 1 else ""
        out(f"{fold(r.host for r in group)}{many}  {one.status}{f'  {safe(one.error)}' if one.error else ''}")
        _output(one.stdout, "  ")
        _output(one.stderr, "  ! ")
        if one.cut:
            out(f"  … and {one.cut} bytes more, not kept: --outdir DIR keeps all")


def _output(data: bytes, indent: str) -> None:
    if not data:
        return
    if sys.stdout.isatty():
        out("\n".join(indent + line for line in shown(data[:READ].decode("utf-8", "replace"))))
        if len(data) > READ:
            out(f"  … and {len(data) - READ} bytes more: --outdir DIR, or a pipe")
    else:
        begin, end = indent.encode(), len(data) - data.endswith(b"\n")
        plain.raw(begin)
        for at in range(0, end, PIECE):  # in pieces: a copy of all of it could be large
            plain.raw(data[at : min(at + PIECE, end)].replace(b"\n", b"\n" + begin))
        plain.raw(b"\n")


def shown(text: str) -> list[str]:
    """The lines of a host's output, harmless on a terminal."""
    return [safe(line.removesuffix("\r")) for line in text.removesuffix("\n").split("\n")] if text else []


def tally(rows: Sequence[Ran]) -> str:
    """`48 of 50 ok · 1 timeout · 1 unreachable`."""
    counts = Counter(r.status for r in rows)
    others = [f"{count} {word}" for word, count in counts.items() if word != "ok"]
    return " · ".join([f"{counts['ok']} of {len(rows)} ok", *others])


def keys(rows: Sequence[Mapping[str, Any]]) -> str:
    return columns(
        (r["host"], r["key_type"] or "", r["fingerprint"] or "", r["outcome"], r["error"] or "") for r in rows
    )
