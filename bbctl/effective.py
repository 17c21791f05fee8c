"""Every value in force and where it came from, secrets masked: what `config show` prints."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from bbctl.inventory.keys import INVENTORY
from bbctl.schema import Kind, Leaf, Many, Record, Table
from bbctl.settings import Setting, Settings, masked
from bbctl.yamlfile import Map, Node, Scalar, Seq
from bbctl.yamlfile import load as load_yaml


def values(settings: Settings) -> list[Setting]:
    """Settings of this machine first, then the inventory, each key at its full path. Raises ConfigError."""
    return [*_machine(settings), *_inventory(settings)]


def _machine(settings: Settings) -> Iterator[Setting]:
    yield settings.inventory()
    yield settings.home_setting()
    yield replace(settings.operator_setting(), value=settings.operator())
    yield settings.playbooks()
    yield _from_environment(settings, "auth", "BBCTL_AUTH", "compatible on loopback")
    yield _output(settings)
    yield _from_environment(settings, "color", "NO_COLOR", "on a terminal", said="never")
    for name in ("mongo", "redis"):
        store = settings.store_setting(name)
        yield Setting(key=store.key, value=masked(store.value) or "embedded", source=store.source)


def _output(settings: Settings) -> Setting:
    said = settings.environ.get("BBCTL_OUTPUT")
    if said == settings.output:
        return Setting(key="output", value=said, source="environment BBCTL_OUTPUT")
    return Setting(key="output", value=settings.output, source="default" if settings.output == "table" else "flag")


def _from_environment(settings: Settings, key: str, variable: str, default: str, *, said: str | None = None) -> Setting:
    value = settings.environ.get(variable)
    if not value:
        return Setting(key=key, value=default, source="default")
    return Setting(key=key, value=said or value, source=f"environment {variable}")


def _inventory(settings: Settings) -> Iterator[Setting]:
    where = settings.inventory().value
    settings.fleet()  # a wrong file is refused before any of it is shown
    node = load_yaml(Path(where)) if where != "none" else Map("none", 0, {}, {})
    for name, key in INVENTORY.keys.items():
        if name != "stores" and isinstance(node, Map):
            yield from _walk(name, node.items.get(name), key.kind, key.default)


def _walk(path: str, node: Node | None, kind: Kind, default: str | None) -> Iterator[Setting]:
    if isinstance(kind, Record):
        rows = node.items if isinstance(node, Map) else {}
        # Defaults inside a part that is not there mean nothing, except in those that always apply.
        if node is not None or path in ("ssh", "lock"):
            for name, key in kind.keys.items():
                yield from _walk(f"{path}.{name}", rows.get(name), key.kind, key.default)
    elif isinstance(kind, Table):
        for name, item in node.items.items() if isinstance(node, Map) else ():
            yield from _walk(f"{path}.{name}", item, kind.of, None)
    elif node is not None:
        yield Setting(key=path, value=_text(node, kind), source=f"{node.source}:{node.line}")
    elif default is not None:
        yield Setting(key=path, value=default, source="default")


def _text(node: Node, kind: Leaf | Many) -> str:
    if isinstance(node, Seq):
        return " ".join(item.text for item in node.items if isinstance(item, Scalar))
    text = node.text if isinstance(node, Scalar) else ""
    return _hidden(text) if isinstance(kind, Leaf) and kind.secret else text


def _hidden(text: str) -> str:
    """A webhook's path is its password."""
    parts = urlsplit(text)
    return f"{parts.scheme}://{parts.hostname}/***" if parts.scheme and parts.hostname else "***"
