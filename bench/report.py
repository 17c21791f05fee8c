"""docs/results.md: each programme that measures replaces its own section, and says where and when it measured."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/results.md"


def replace(section: str, text: str, page: Path = PAGE) -> None:
    """Put `text` between the marks of `section`. ValueError where the page has none."""
    begin, end = f"<!-- {section}: begin -->\n", f"<!-- {section}: end -->"
    whole = page.read_text(encoding="utf-8")
    head, found, rest = whole.partition(begin)
    _, closed, tail = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"{page} has no section {section}")
    page.write_text(f"{head}{begin}{text.strip()}\n{end}{tail}", encoding="utf-8")


def circumstances() -> str:
    """One line: when, on what, at which commit."""
    model = next(
        (line.split(":", 1)[1].strip() for line in _cpuinfo() if line.startswith("model name")), platform.machine()
    )
    asked = ["git", "describe", "--always", "--dirty"]
    commit = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip() or "no git"
    when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return f"{when} · {os.cpu_count()} cores, {model} · Linux {platform.release()} · Python {platform.python_version()} · {commit}"


def _cpuinfo() -> list[str]:
    return Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
