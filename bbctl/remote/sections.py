"""Many questions in one exec: each part is a piece of POSIX shell, its answer is found again between marker lines.

A part runs in a subshell of its own, so that no part can change or end another. The marker is random and handed in,
so that nothing a host prints (a log line, a command line) can pass for the border of an answer.
"""

from __future__ import annotations

from collections.abc import Mapping

from bbctl.remote.shell import quote


def together(parts: Mapping[str, str], *, marker: str) -> str:
    """One shell text that runs every part in turn and marks where each answer begins, and where all end."""
    ran = [
        f"printf '\\n%s %s\\n' {quote(marker)} {quote(name)}\n(\n{text}\n) </dev/null" for name, text in parts.items()
    ]
    return "\n".join(["exec 2>&1", *ran, f"printf '\\n%s .\\n' {quote(marker)}"])


def apart(output: bytes, *, marker: str) -> dict[str, bytes]:
    """Each part's answer by its name. A part whose end was not seen (the output was cut) is left out."""
    pieces = output.split(b"\n" + marker.encode() + b" ")[1:]
    found: dict[str, bytes] = {}
    for piece in pieces[:-1]:
        name, _, answer = piece.partition(b"\n")
        found[name.decode("utf-8", "replace")] = answer
    return found
