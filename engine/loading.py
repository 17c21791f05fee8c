"""The modules that bring Python handlers: loaded in each worker, tried once before the first one starts.

`python -m engine.loading` reads their names as JSON from stdin, loads them, and says in a line what is wrong with the
first that cannot be loaded: whatever a module does as it is loaded, it does not do to who starts the workers.
"""

from __future__ import annotations

import importlib
import json
import os
import shlex
import signal
import subprocess
import sys
import traceback
from collections.abc import Sequence

from engine.errors import BadRequest

UNLOADABLE = 78
"""Exit code of a process that cannot load its modules."""
MACHINERY = ("<frozen ", os.path.dirname(importlib.__file__), os.path.dirname(__file__))


def load(modules: Sequence[str]) -> None:
    """Imports them, from the current folder first. BadRequest names the module, the reason and its place."""
    sys.path.insert(0, os.getcwd())
    for module in modules:
        try:
            importlib.import_module(module)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise _bad(module, error) from error


def tried(modules: Sequence[str]) -> None:
    """Loads them in a process of its own. BadRequest: as `load`."""
    argv = [sys.executable, "-m", "engine.loading"]
    done = subprocess.run(argv, input=json.dumps(list(modules)), stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode == UNLOADABLE:
        told = json.loads(done.stdout.splitlines()[-1])
        raise BadRequest("import", told["message"], next=told["next"])
    if done.returncode:
        how = f"signal {-done.returncode}" if done.returncode < 0 else f"exit {done.returncode}"
        raise BadRequest("import", f"{' '.join(modules)} cannot be loaded: it ends the process ({how})")


def _bad(module: str, error: BaseException) -> BadRequest:
    if module.endswith(".py"):
        name = module.removesuffix(".py").replace("/", ".")
        return BadRequest(
            "import", f"{module} is a file: give the name of its module", next=f"bbctl work --import {name}"
        )
    if isinstance(error, ModuleNotFoundError) and error.name and (module + ".").startswith(error.name + "."):
        return BadRequest("import", f"there is no module {error.name}, neither in {os.getcwd()} nor on Python's path")
    said = " ".join(str(error).split())
    message = (
        f"{module or repr(module)} cannot be loaded: {type(error).__name__}{': ' if said else ''}{said}{_place(error)}"
    )
    whole = f"{os.path.basename(sys.executable)} -c {shlex.quote(f'import {module}')}"
    return BadRequest("import", message, next=whole if module else None)


def _place(error: BaseException) -> str:
    """The last line of it that is neither ours nor Python's own machinery of imports."""
    if isinstance(error, SyntaxError):
        return ""  # its text names it
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(MACHINERY)]
    return f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""


def main() -> int:
    out, sys.stdout = sys.stdout, sys.stderr  # what a module prints is for a person
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        load(json.load(sys.stdin))
    except BadRequest as error:
        out.write(json.dumps({"message": error.message, "next": error.next}) + "\n")
        return UNLOADABLE
    return 0


if __name__ == "__main__":
    sys.exit(main())
