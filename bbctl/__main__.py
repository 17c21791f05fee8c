"""The way in. What must be instant (version, completion) is answered before anything heavy is imported."""

from __future__ import annotations

import gc
import io
import os
import signal
import sys
from contextlib import suppress
from types import FrameType
from typing import Any

VERSION = "0.1.0"
GARBAGE = 50_000  # new objects between two looks for rings of them; Python's 700 cost a tenth of a short command


def main() -> None:
    """Run bbctl with this process's arguments and exit with its code."""
    signal.signal(signal.SIGINT, _nothing_begun)
    _standard_streams()
    words = sys.argv[1:]
    if words[:1] == ["__complete"]:
        from bbctl.cli.complete import complete

        sys.exit(complete(words[1:]))
    if words in (["--version"], ["version"]):
        sys.stdout.write(f"bbctl {VERSION}\n")
        sys.exit(0)
    gc.set_threshold(GARBAGE)
    from bbctl.cli.app import run

    code = run(words)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the result is told: it is no Ctrl-C's any more
    gc.freeze()  # or the interpreter looks through everything once more before it goes
    sys.exit(code)


def _nothing_begun(number: int, frame: FrameType | None) -> None:
    """Ctrl-C before `run` listens. Not an exception: half-imported modules would make other errors of it."""
    with suppress(OSError):
        os.write(2, b"error: interrupted\n")
    os._exit(130)


def _standard_streams() -> None:
    """Whoever started us may have closed stdin, stdout or stderr: then they are nowhere, and no file or connection that
    is opened later takes their place and gets what was meant for the screen."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDONLY if mode == "r" else os.O_WRONLY)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))
    words = sys.stderr
    sys.stderr = io.TextIOWrapper(
        io.BufferedWriter(_Unheard(2, "w", closefd=False)), words.encoding, words.errors, line_buffering=True
    )


class _Unheard(io.FileIO):
    """stderr. Where nobody can be told any more (a pipe that was closed, a terminal that is gone, a full disk) what is said
    is lost and nothing else: a run does not leave a host half-way because its progress cannot be shown."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except BlockingIOError:
            raise
        except OSError:
            return memoryview(data).nbytes


if __name__ == "__main__":
    main()
