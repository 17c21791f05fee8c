"""Having a run's record copied to MongoDB: by a process of its own, so that the run waits for nobody and loads no driver."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from bbctl import child
from bbctl.cli.front import Call
from bbctl.errors import BbctlError
from bbctl.settings import Stores


def to(stores: Stores, home: Path) -> bool:
    """Whether there may be a MongoDB for copies: one that is named, or the embedded one, if that is to be up."""
    return stores.mongo is not None or (not stores.named and (home / "stores" / "wanted").exists())


def beside(call: Call, run: str) -> None:
    """Start the copyist of a run, where a MongoDB is named or the embedded one is up. Never fails, never waits."""
    with suppress(OSError, BbctlError):
        home, stores = call.settings.home(), call.settings.stores()
        if not to(stores, home):
            return
        job = {"home": str(home.absolute()), "run": run, "mongo": stores.mongo, "redis": stores.redis}
        child.detach("bbctl.copyist", said=json.dumps(job).encode())
