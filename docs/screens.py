"""docs/screens.md, from a practice cluster that really breaks: each command typed in a terminal (tmux), its screen kept.

    make screens        (needs tmux; about three minutes)

Nothing is shortened or rewritten, but that the folder of the run is called by its usual name.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from picture import Terminal, plain

HERE = Path(__file__).resolve().parent
COLUMNS = 130
PATIENCE = 120.0  # seconds


@dataclass(frozen=True, kw_only=True)
class Screen:
    """One command: `before` is done first and not shown, `keys` are typed once `at` stands on the screen; a screen
    that does not end by itself is kept when `at` stands there."""

    title: str
    types: str
    before: tuple[str, ...] = ()
    at: str | None = None
    keys: str | None = None
    lines: int = 40


SCREENS = (
    Screen(title="The same command on every host, equal answers folded", types="bbctl -i lab exec workers -- uname -srm"),
    Screen(
        title="A rolling restart with a hang in it", before=("bbctl lab break accounting-worker2 hang-on-stop",),
        types="bbctl -i lab restart workers", at=r"Go\? ", keys="y", lines=48,
    ),
    Screen(title="A refusal", types="bbctl -i lab stop workers --yes"),
    Screen(
        title="A failure", before=("bbctl lab break accounting-worker3 never-healthy",),
        types="bbctl -i lab restart accounting-worker3 --yes --reason 'deploy 81'",
    ),
    Screen(
        title="A page at 3 a.m.: what is wrong, the proof, what to type",
        before=(
            "bbctl lab mend accounting-worker3", "bbctl -i lab restart accounting-worker3 --yes",
            "bbctl lab break accounting-worker2 hang-on-stop",
            "bbctl -i lab exec accounting-worker2 --timeout 8s -- "
            "$BBCTL_HOME/lab/hosts/accounting-worker2.snc1/init.d/something_jboss stop",
        ),
        types="bbctl -i lab diagnose accounting-worker2",
    ),
    Screen(
        title="Logs of all hosts while one is restarted",
        before=("(sleep 3; bbctl -i lab restart accounting-worker2 --yes) >/dev/null 2>&1 &",),
        types="bbctl -i lab logs workers -f -n 3", at=r"worker2[^\n]*Stopping HornetQ(?s:.*)worker2[^\n]*Started in", lines=20,
    ),
    Screen(title="Workflows that hang, by cause", before=("bbctl lab break client silent", "sleep 6"), types="bbctl -i lab wf stuck"),
    Screen(title="Why one of them hangs", types="bbctl -i lab wf why invoice=4711"),
    Screen(title="Its tree, while it changes", types="bbctl -i lab wf show invoice=4711 -w", at="sent_to_client", lines=16),
    Screen(title="The queues", types="bbctl -i lab queues"),
)  # fmt: skip


def kept(screen: Screen, home: Path, environ: dict[str, str]) -> str:
    for command in screen.before:
        subprocess.run(
            command, shell=True, env=environ, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
    ended = home / "ended"
    ended.unlink(missing_ok=True)
    terminal = Terminal(screen.types, home, columns=COLUMNS, lines=screen.lines)
    try:
        until, typed = time.monotonic() + PATIENCE, False
        while time.monotonic() < until:
            over, now = ended.exists(), plain(terminal.screen())
            if "a defect of bbctl" in now:
                raise RuntimeError(f"{screen.types}\n{now}")
            if screen.at and not typed and re.search(screen.at, now):
                if screen.keys is None:
                    return now
                terminal.type(screen.keys)
                typed = True
            if over:
                return now
            time.sleep(0.2)
        raise RuntimeError(f"never ended: {screen.types}\n{now}")
    finally:
        terminal.close()


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="bbctl-screens-") as folder:
        home = Path(folder)
        environ = dict(os.environ, BBCTL_HOME=folder, PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
        bbctl = ["bbctl", "lab"]
        subprocess.run([*bbctl, "up"], env=environ, check=True, stdout=subprocess.DEVNULL)
        try:
            parts = [(screen, kept(screen, home, environ)) for screen in SCREENS]
        finally:
            subprocess.run([*bbctl, "down"], env=environ, check=True, stdout=subprocess.DEVNULL)
    text = [
        "# Screens",
        "",
        f"From `make screens`: a practice cluster (`bbctl lab up`), broken on purpose, in a terminal of {COLUMNS} columns.",
        "",
    ]
    for screen, shown in parts:
        lines = [line.rstrip().replace(folder, "~/.local/state/bbctl") for line in shown.strip("\n").splitlines()]
        text += [f"## {screen.title}", "", "```", f"$ {screen.types}", *lines, "```", ""]
    (HERE / "screens.md").write_text("\n".join(text).rstrip() + "\n", encoding="utf-8")
    print("docs/screens.md")


if __name__ == "__main__":
    main()
