"""Writes docs/reference.md from the tables that bbctl itself reads by: `make reference`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import typer

from bbctl.cli.app import load
from bbctl.cli.table import COMMANDS, Command
from bbctl.codes import CODES
from bbctl.errors import EXITS
from bbctl.inventory.keys import INVENTORY
from bbctl.run.playbook import FACTS, HEAD, KINDS, MODIFIERS, STRATEGY
from bbctl.schema import Key, Kind, Record, Table

PAGE = Path(__file__).with_name("reference.md")


def text() -> str:
    """The whole page."""
    lines = [
        "# Reference",
        "",
        "Written by `make reference` from the tables that bbctl reads by. In doubt `bbctl COMMAND --help`, "
        "`bbctl config schema`, `bbctl explain CODE`.",
        *_part("Inventory", ("key", "kind", "default", ""), _keys("", INVENTORY)),
        *_part("Playbook", ("key", "kind", "default", ""), _playbook()),
        *_part("Steps of a playbook", ("step", "", "with"), _steps()),
        *_part("What `when` and `unless` may ask", ("fact", ""), ((f"`{word}`", says) for word, says in FACTS.items())),
        *_part("Beside a step", ("key", "kind", "default", ""), _rows("", MODIFIERS)),
        *_part("Exit codes", ("exit", ""), ((str(code), says) for code, says in EXITS.items())),
        *_part("Codes", ("code", "exit", "means", "do"), _codes()),
        *_part("Commands", ("command", "", "options", "-o"), map(_command, COMMANDS.values())),
        "",
        "Everywhere: `-i INVENTORY`, `-o FORMAT` (the first in the last column is the default), `-y`.",
    ]
    return "\n".join(lines) + "\n"


def _part(title: str, head: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    heads = list(head)
    yield from ("", f"## {title}", "", f"| {' | '.join(heads)} |", "|" + "---|" * len(heads))
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"


def _keys(above: str, record: Record) -> Iterator[tuple[str, ...]]:
    return _rows(above, record.keys)


def _rows(above: str, keys: Mapping[str, Key]) -> Iterator[tuple[str, ...]]:
    """A line a key, those inside it below it."""
    for name, key in keys.items():
        default = "required" if key.required else f"`{key.default}`" if key.default else ""
        yield f"`{above}{name}`", _kind(key.kind), default, key.doc
        if isinstance(key.kind, Record):
            yield from _keys(f"{above}{name}.", key.kind)
        if isinstance(key.kind, Table) and isinstance(key.kind.of, Record):
            yield from _keys(f"{above}{name}.NAME.", key.kind.of)


def _kind(kind: Kind) -> str:
    if isinstance(kind, Record):
        return "a map"
    if isinstance(kind, Table):
        return "names: a map each" if isinstance(kind.of, Record) else f"names: {_kind(kind.of)} each"
    return kind.what.partition(" (")[0]  # what a name may be made of, a message says


def _playbook() -> Iterator[tuple[str, ...]]:
    yield from _rows("", HEAD)
    yield "`strategy`", "a map", "", STRATEGY.what
    yield from _keys("strategy.", STRATEGY)
    yield "`steps`", "a list of steps", "required", "what is done on each host, in order"


def _steps() -> Iterator[tuple[str, ...]]:
    for word, kind in KINDS.items():
        said = ""
        if isinstance(kind.args, Record):
            said = "; ".join(f"`{name}`: {key.doc}{_default(key)}" for name, key in kind.args.keys.items())
        elif kind.args is not None:
            said = f"`{kind.arg}`: {kind.args.what}"
        yield f"`{word}`", kind.about, said


def _default(key: Key) -> str:
    return f" ({key.default})" if key.default else ""


def _codes() -> Iterator[tuple[str, ...]]:
    for word, code in CODES.items():
        yield f"`{word}`", "" if code.exit is None else str(code.exit), code.means, code.do


def _command(command: Command) -> tuple[str, ...]:
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command(name=command.name)(load(command))
    words, options = [f"bbctl {command.name}"], []
    for one in typer.main.get_command(app).params:
        if one.param_type_name == "argument":
            words.append(one.metavar or one.human_readable_name)
        elif one.name != "help":
            value = "" if getattr(one, "is_flag", False) else f" {one.metavar or 'VALUE'}"
            options.append(f"`{one.opts[-1]}{value}`")
    words += ["-- ARGV"] if command.tail else []
    return f"`{' '.join(words)}`", command.about, " ".join(options), " ".join(command.formats)


if __name__ == "__main__":
    PAGE.write_text(text(), encoding="utf-8")
