"""Fabric and paramiko, loaded without what they never use here.

invoke, on which both rest, imports `unittest.mock` for a test double of its own, and that takes asyncio and ssl along: a
tenth of what a command on hosts takes to start. While they load, a module of that name stands there whose Mock is looked
for by whoever calls it.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

__all__ = ["fabric", "paramiko"]


def _mock(*args: Any, **options: Any) -> Any:
    return importlib.import_module("unittest.mock").Mock(*args, **options)


@contextmanager
def _mock_later() -> Iterator[None]:
    """In here `from unittest.mock import Mock` loads nothing; where it has been loaded already, nothing changes."""
    name = "unittest.mock"
    if name in sys.modules:
        yield
        return
    later = ModuleType(name)
    later.__dict__["Mock"] = _mock
    sys.modules[name] = later
    try:
        yield
    finally:
        del sys.modules[name]


with _mock_later():
    import fabric
    import paramiko
