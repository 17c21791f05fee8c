"""`python -m bench [PART]…`: the parts one after the other, their figures on the screen and in docs/results.md.

    python -m bench                 everything, as `make bench` does: a quarter of an hour
    python -m bench engine --small  one part, a fifth of the work; what the part's own --help lists may follow

What a part prints is kept as it is. A part that fails is named in the page, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

from bench.report import ROOT, circumstances, replace

# What runs, and what its figures are.
PARTS: dict[str, str] = {
    "engine": "Activities a second and milliseconds, ours and peers'; `÷` is how many times the peer's.",
    "ssh": "Seconds of wall and client CPU, ours and peers'; `×` is how many times ours.",
}


def run(part: str, more: list[str]) -> tuple[str, int]:
    """One part: what it printed (shown meanwhile), and its exit code."""
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", f"bench.{part}", *more], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    said = []
    assert process.stdout is not None
    for line in process.stdout:
        print(line, end="", flush=True)
        said.append(line)
    return "".join(said), process.wait()


def main() -> int:
    words = argparse.ArgumentParser(prog="python -m bench", description=__doc__.partition("\n")[0])
    words.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; without: all")
    words.add_argument("--dry", action="store_true", help="leave docs/results.md as it is")
    said, more = words.parse_known_args()
    if unknown := set(said.parts) - set(PARTS):
        words.error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    failed = 0
    for part in said.parts or PARTS:
        print(f"\n== {part}", flush=True)
        at = circumstances()
        printed, code = run(part, more)
        failed |= code
        text = [f"## Bench: {part}", "", f"    python -m bench {' '.join([part, *more])}", "", PARTS[part], "", at, ""]
        text += ["```", printed.strip(), "```"] + ([f"**ended with {code}**"] if code else [])
        if not said.dry:
            replace(f"bench {part}", "\n".join(text))
            print("\ndocs/results.md")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
