"""The bundle everything needs, and the only place where it is built."""

from __future__ import annotations

from dataclasses import dataclass

from engine.settings import Settings


@dataclass
class Runtime:
    settings: Settings

    def close(self) -> None:
        raise NotImplementedError


def open_runtime(settings: Settings, *, handlers: object = None) -> Runtime:
    raise NotImplementedError
