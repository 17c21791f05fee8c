"""A defect of bbctl, told in a line: nobody reads a traceback at 3 a.m., so it goes to a file."""

from __future__ import annotations

import os
import threading
import time
import traceback
from pathlib import Path


def told(home: Path, error: BaseException) -> str:
    """The line. Its traceback lies below `home`/crashes, readable by its owner only, where that can be written to."""
    where = home / "crashes" / f"{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}-{threading.get_native_id()}.txt"
    try:
        where.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with os.fdopen(os.open(where, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write("".join(traceback.format_exception(error)))
        kept = f"kept in {where}"
    except OSError:
        kept = f"{where} could not be written"
    return f"a defect of bbctl: {type(error).__name__}; details {kept}"
