"""`bbctl init`: a first inventory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from bbctl.cli.front import Call
from bbctl.errors import UsageError


def init(
    ctx: typer.Context, folder: Annotated[Path, typer.Argument(metavar="DIR", help="Made where it is missing.")]
) -> None:
    """Write a commented sample inventory into DIR; nothing that is there is overwritten.

    \b
    Examples:
      bbctl init .
      bbctl init ~/.config/bbctl
    """
    from bbctl.inventory import sample

    call: Call = ctx.obj
    path = folder.expanduser() / "inventory.yml"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # 0644 whatever the umask: an inventory that a group may write to is refused when read.
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), 0o644)
            file.write(sample.inventory())
    except FileExistsError:
        raise UsageError(
            f"{path} is there already: nothing was written", code="exists", next=f"bbctl -i {path} config check"
        ) from None
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written: {error.strerror}", code="not-written", next="bbctl init DIR"
        ) from None
    call.show({"written": [str(path)]}, lambda: f"{path} written\nnext     edit it, then bbctl -i {path} config check")
