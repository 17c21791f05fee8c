"""What every command function gets, and the words they share.

A command is a plain function with Typer annotations whose first parameter is `ctx: typer.Context`; `ctx.obj` is the
`Call`. It parses, calls one function, shows one record, and returns its exit code (None = 0). `-i -o -y` are taken out
of the words before Typer sees them, so they are understood before and after the command; no command declares them.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bbctl.durations import parse_duration, parse_when
from bbctl.errors import NotConfirmed, UsageError
from bbctl.render import plain, screen

if TYPE_CHECKING:
    from bbctl.model import Fleet
    from bbctl.settings import Settings

Targets = Annotated[
    list[str] | None, typer.Argument(metavar="[TARGET]...", help="Groups, hosts, patterns; see `bbctl hosts`.")
]
Exclude = Annotated[list[str] | None, typer.Option("-x", "--exclude", metavar="PATTERN", help="Leave these hosts out.")]
Label = Annotated[
    list[str] | None, typer.Option("-l", "--label", metavar="KEY=VALUE", help="Only hosts with this label.")
]
ServiceName = Annotated[
    str | None, typer.Option("--service", metavar="NAME", help="Which service, where there are several.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done; change nothing.")]
Reason = Annotated[
    str | None, typer.Option("--reason", metavar="TEXT", help="Why; kept on record, and in the lock of a host.")
]
Rehearse = Annotated[bool, typer.Option("--rehearse", help="Prove every permission and gate; ask and change nothing.")]
Force = Annotated[bool, typer.Option("--force", help="Override the capacity guard; needs --reason.")]

# Commands whose text is somebody else's, shown as it is.
DATA = {"exec", "logs", "threads", "runbook", "playbook", "config", "links", "init", "lab", "demo", "explain"}


@dataclass
class Call:
    """One invocation: what was said before and after the command. `tail` is what stood after `--`, for commands that want it."""

    command: str
    inventory: str | None = None
    output: str = "table"
    yes: bool = False
    tail: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)

    @property
    def json(self) -> bool:
        return self.output == "json"

    @cached_property
    def settings(self) -> Settings:
        from bbctl.settings import load

        return load(self.environ, inventory=self.inventory, output=self.output)

    @cached_property
    def fleet(self) -> Fleet:
        return self.settings.fleet()

    @property
    def can_ask(self) -> bool:
        """Whether somebody is there: a terminal for questions (stderr) and answers (stdin)."""
        return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()

    def show(self, value: Any, human: Callable[[], str | None], *, name: str = "name") -> None:
        """Print a command's result: as JSON or YAML the value itself, as `name` one `value[name]` a line, else what `human` returns.

        `value` is made of dicts, lists, strings, numbers, booleans and None only. `human` returns finished text (or has
        printed through bbctl.render itself and returns None).
        """
        if self.output in ("json", "yaml"):
            plain.emit(value, self.output)
        elif self.output == "name":
            plain.names(value, name)
        else:
            with screen.commands_for(self.said_inventory):
                text = human()
            if text is not None:
                self.tell(text)

    def say(self, text: str) -> None:
        """Progress and remarks: one line on stderr."""
        with screen.commands_for(self.said_inventory):
            screen.err(screen.typed(text))

    def tell(self, text: str) -> None:
        """A finished text to stdout."""
        with screen.commands_for(self.said_inventory):
            screen.out(screen.typed(text))

    @property
    def said_inventory(self) -> str | None:
        """The inventory that commands shown to a person must name as this call did: without it they go to other hosts."""
        return None if self.command.split()[0] in DATA else self.inventory

    def confirm(self, question: str, *, result: Any = None) -> None:
        """Ask y/N on a terminal; without `--yes` and without a terminal, or on another answer than yes: NotConfirmed (3).

        Nothing may have been changed before. `result` is what `-o json` prints in that case.
        """
        if self.yes:
            return
        if not self.can_ask:
            raise NotConfirmed(
                "not confirmed: there is no terminal to ask on", next="the same command with --yes", result=result
            )
        screen.err(f"{question} [y/N] ", end="")
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            raise NotConfirmed("not confirmed: nothing was changed", result=result)


def need_reason(force: bool, reason: str | None) -> None:
    """`--force` overrides the capacity guard only, and needs a reason (2 without)."""
    if force and not reason:
        raise UsageError("--force needs --reason: why may the guard be overridden?")


def seconds(text: str, option: str) -> float:
    """A duration option in seconds; UsageError names the option where it is none."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise UsageError(f"{option} {text}: {error}") from None


def moment(text: str, option: str) -> float:
    """An option that is a point in time, in seconds since the epoch; UsageError names the option where it is none."""
    try:
        return parse_when(text, now=time.time())
    except ValueError as error:
        raise UsageError(f"{option} {text}: {error}") from None
