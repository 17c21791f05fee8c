"""docs/demo.svg, from a real `bbctl demo`: run in a terminal (tmux), its screen looked at all the time, four moments kept.

    make picture        (needs tmux; about a minute and a half)

Nothing is drawn that was not on the screen, colours included; only the folder of the run is called by its usual name.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.text import Text

HERE = Path(__file__).resolve().parent
BBCTL = Path(sys.executable).with_name("bbctl")
COLUMNS, LINES = 100, 40
PATIENCE = 240.0  # seconds
SVG_CLASS = "bbctl-demo"  # so that the same screen gives the same file

VICTIM = r"accounting-worker2\S*\s+"
# What is kept: a caption, and what stands on the screen at that moment (the first, or the last time that it does).
MOMENTS: tuple[tuple[str, str, bool], ...] = (
    ("a stop that does not end", VICTIM + r"stop\s+[\d.]+s  log says", True),
    ("proven hung: evidence first", VICTIM + r"evidence\s+[\d.]+s  hangs", True),
    ("then the one proven process", VICTIM + r"(start|started|health)\s+[\d.]+s  KILL", False),
    ("and on with the next host", r"Your turn", True),
)


class Terminal:
    """A tmux server of its own with one window that runs one command."""

    def __init__(self, command: str, home: Path, *, columns: int = COLUMNS, lines: int = LINES) -> None:
        self._tmux = ["tmux", "-L", f"picture-{time.monotonic_ns()}", "-f", os.devnull]
        environ = {k: v for k, v in os.environ.items() if not k.startswith(("BBCTL_", "TMUX")) and k != "NO_COLOR"}
        environ |= {"BBCTL_HOME": str(home), "TERM": "xterm-256color", "COLORTERM": ""}
        environ["PATH"] = f"{BBCTL.parent}:{environ['PATH']}"
        line = f"{command}; touch {home}/ended; sleep 60"
        size = ["-x", str(columns), "-y", str(lines)]
        subprocess.run([*self._tmux, "new-session", "-d", "-s", "demo", *size, line], env=environ, check=True)

    def screen(self) -> str:
        """What stands on it now, with its colours as escape sequences."""
        asked = [*self._tmux, "capture-pane", "-e", "-p", "-t", "demo"]
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout

    def type(self, text: str) -> None:
        """Typed as a person would, with Enter behind it."""
        subprocess.run([*self._tmux, "send-keys", "-t", "demo", text, "Enter"], check=True)

    def close(self) -> None:
        subprocess.run([*self._tmux, "kill-server"], check=False)


def plain(screen: str) -> str:
    return Text.from_ansi(screen).plain


def watch(screen: Callable[[], str], ended: Callable[[], bool]) -> list[str]:
    """The screen at each of the MOMENTS. Raises RuntimeError where one never came."""
    kept: dict[str, str] = {}
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        over, now = ended(), screen()
        for caption, pattern, latest in MOMENTS:
            if (latest or caption not in kept) and re.search(pattern, plain(now)):
                kept[caption] = now
        if over:
            break
        time.sleep(0.2)
    if missing := [caption for caption, _, _ in MOMENTS if caption not in kept]:
        raise RuntimeError(f"never seen: {', '.join(missing)}")
    return [kept[caption] for caption, _, _ in MOMENTS]


def table(screen: str) -> list[str]:
    """The table of hosts and the line of invoices, out of a screen, with its colours."""
    lines = screen.splitlines()
    at = next(n for n, line in enumerate(lines) if plain(line).split() == ["host"])
    end = next(n for n, line in enumerate(lines) if plain(line).startswith("invoices"))
    return [line for line in lines[at + 1 : end + 1] if plain(line).strip()]


def last_words(screen: str) -> list[str]:
    lines = screen.splitlines()
    at = next(n for n, line in enumerate(lines) if " invoices done" in plain(line))
    return [line for line in lines[at:] if plain(line).strip()]


def draw(frames: list[str], home: Path) -> str:
    """The picture: the moments one below the other."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(Text.assemble(("$ ", "bright_black"), "make demo"))
    for (caption, _, _), frame in zip(MOMENTS, frames, strict=True):
        console.print()
        console.print(Text(caption, "bold"))
        for line in table(frame):
            console.print(Text.from_ansi(line))
    console.print()
    for line in last_words(frames[-1]):
        console.print(Text.from_ansi(line.replace(str(home), "~/.local/state/bbctl")))
    picture = console.export_svg(title="bbctl demo", unique_id=SVG_CLASS)
    return picture.replace("<text ", '<text xml:space="preserve" ')  # some viewers drop leading blanks otherwise


def main() -> None:
    if shutil.which("tmux") is None:
        sys.exit("needs tmux: apt-get install tmux")
    with tempfile.TemporaryDirectory(prefix="bbctl-picture-") as folder:
        home = Path(folder)
        terminal = Terminal("bbctl demo", home)
        try:
            frames = watch(terminal.screen, lambda: (home / "ended").exists())
        finally:
            terminal.close()
        (HERE / "demo.svg").write_text(draw(frames, home), encoding="utf-8")
    print("docs/demo.svg")


if __name__ == "__main__":
    main()
