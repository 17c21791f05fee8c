"""The way in. What must be instant (version, completion) is answered before anything heavy is imported."""

from __future__ import annotations

import sys

VERSION = "0.1.0"


def main() -> None:
    """Run bbctl with this process's arguments and exit with its code."""
    words = sys.argv[1:]
    if words[:1] == ["__complete"]:
        from bbctl.cli.complete import complete

        sys.exit(complete(words[1:]))
    if words in (["--version"], ["version"]):
        sys.stdout.write(f"bbctl {VERSION}\n")
        sys.exit(0)
    from bbctl.cli.app import run

    sys.exit(run(words))


if __name__ == "__main__":
    main()
