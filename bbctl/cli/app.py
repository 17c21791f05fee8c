"""From words to an exit code: find the command, call it, and turn every error into one, in this place only."""

from __future__ import annotations

import difflib
import errno
import functools
import importlib
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from bbctl import defects
from bbctl.cli.table import COMMANDS, NOUNS, PANELS, Command, nouns
from bbctl.errors import BbctlError, Interrupted, UsageError

COLUMNS = 80  # of the front page
# Options that take a free text: what follows them is never one of ours.
FREE_TEXT = {
    "-g",
    "--grep",
    "--highlight",
    "--reason",
    "--data",
    "--subject",
    "--key",
    "-x",
    "--exclude",
    "-s",
    "--signal",
}


@dataclass(frozen=True)
class Words:
    """The words of a call, sorted: ours for everywhere, the command's, and what stood after `--` (None without one)."""

    inventory: str | None
    output: str | None
    yes: bool
    rest: tuple[str, ...]
    tail: tuple[str, ...] | None


def sort(argv: Sequence[str]) -> Words:
    """Take `-i -o -y` out of the words, wherever they stand before a `--`. UsageError where a value is missing."""
    cut = argv.index("--") if "--" in argv else len(argv)
    head, tail = list(argv[:cut]), tuple(argv[cut + 1 :]) if cut < len(argv) else None
    found: dict[str, str] = {}
    yes, rest, at = False, [], 0
    while at < len(head):
        word = head[at]
        name, joined = _ours(word)
        if word in FREE_TEXT:
            rest += head[at : at + 2]
            at += 1
        elif word in ("-y", "--yes"):
            yes = True
        elif name and joined is not None:
            found[name] = joined
        elif name:
            at += 1
            if at >= len(head):
                raise UsageError(f"{word} needs a value", next="bbctl --help")
            found[name] = head[at]
        else:
            rest.append(word)
        at += 1
    return Words(found.get("inventory"), found.get("output"), yes, tuple(rest), tail)


def _ours(word: str) -> tuple[str | None, str | None]:
    """Which of our two options a word is, and its value where it is joined to it (`--output=json`, `-ojson`)."""
    for name, short in (("inventory", "-i"), ("output", "-o")):
        if word in (short, f"--{name}"):
            return name, None
        if word.startswith(f"--{name}="):
            return name, word.split("=", 1)[1]
        if word.startswith(short) and not word.startswith("--") and len(word) > 2:
            return name, word[2:].removeprefix("=")
    return None, None


def find(rest: Sequence[str]) -> tuple[Command, list[str]]:
    """The command that the words name, and the words after it. UsageError with near matches where there is none."""
    first = NOUNS.get(rest[0], rest[0])
    if len(rest) > 1 and (two := COMMANDS.get(f"{first} {rest[1]}")):
        return two, list(rest[2:])
    if one := COMMANDS.get(first):
        return one, list(rest[1:])
    if first in nouns():
        verbs = sorted(name.split()[1] for name in COMMANDS if name.startswith(first + " "))
        if len(rest) > 1:
            near = difflib.get_close_matches(rest[1], verbs, 1)
            said = f"bbctl {first} has no {rest[1]!r}" + (f"; did you mean {near[0]!r}?" if near else "")
        else:
            said = f"bbctl {first} needs one of: {' '.join(verbs)}"
        raise UsageError(said, next=f"bbctl {first} --help")
    near = difflib.get_close_matches(first, [*COMMANDS, *nouns(), *NOUNS], 3, 0.6)
    raise UsageError(
        f"no command {rest[0]!r}" + (f"; did you mean {' or '.join(near)}?" if near else ""), next="bbctl --help"
    )


def overview() -> str:
    """The front page: panels of words."""
    lines = ["bbctl: keep Backbeat alive          bbctl -i lab … practises on fake hosts", ""]
    for panel, commands in PANELS.items():
        said: dict[str, list[str]] = {}
        for c in commands:
            noun, _, verb = c.name.partition(" ")
            said.setdefault(noun, []).append(verb)
        words = [_noun(noun, [v for v in verbs if v]) for noun, verbs in said.items()]
        lines += _fill(f"{panel:<11}", words)
    lines += [
        "",
        "Everywhere   -i/--inventory FILE  -o/--output table|json|yaml  -y/--yes  --help",
        "Examples     bbctl diagnose accounting-worker2   what is wrong, and what to type",
        "             bbctl restart workers --dry-run     every command, nothing done",
        "             bbctl wf why invoice=4711           why it hangs",
    ]
    return "\n".join(lines)


def _noun(noun: str, verbs: list[str]) -> str:
    more = "|…" if len(verbs) > 8 else ""
    return f"{noun} {'|'.join(verbs[:8])}{more}" if verbs else noun


def _fill(label: str, words: list[str]) -> list[str]:
    lines, current = [], label
    for word in words:
        if len(current) + len(word) + 3 > COLUMNS:
            lines.append(current)
            current = " " * len(label)
        current += ("" if current.strip() in ("", label.strip()) else " · ") + word
    return [*lines, current]


def noun_help(noun: str) -> str:
    """The verbs of a noun, a line each."""
    rows = [c for name, c in COMMANDS.items() if name.split()[0] == noun]
    wide = max(len(c.name) for c in rows)
    return "\n".join([f"bbctl {c.name:<{wide}}  {c.about}" for c in rows] + ["", f"bbctl {noun} VERB --help says more"])


def run(argv: Sequence[str]) -> int:
    """Run one call and give its exit code. Nothing escapes: no traceback reaches a user."""
    state: dict[str, Any] = {"output": "table", "command": None, "lines": _of_lines(argv)}
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a script's background job is born with it ignored
    try:
        return _run(argv, state)
    except (BrokenPipeError, _NobodyReads):
        return _unread(141)
    except KeyboardInterrupt:
        return report(Interrupted("interrupted"), state)
    except BbctlError as error:
        if isinstance(error, UsageError) and error.next is None:
            error.next = _help(state)
        return report(error, state)
    except Exception as error:
        return report(translate(error, state), state)
    finally:
        _last_words()


def _last_words() -> None:
    """What is still on its way to stdout. Where it cannot get there an error was told already: no second one at the end."""
    try:
        sys.stdout.flush()
    except OSError:
        _unread(1)


class _NobodyReads(Exception):
    """A closed pipe, under a name that Click does not take for its own affair (it would exit 1)."""


def _unread(code: int) -> int:
    """Nothing more can be written to stdout: the rest goes nowhere, or the interpreter complains once more at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return code


def _of_lines(argv: Sequence[str]) -> bool:
    """Whether `-o json` means JSON lines here, so that an error is a line as well: `logs`, and whatever is watched."""
    head = argv[: argv.index("--")] if "--" in argv else argv
    return any(word in ("logs", "log", "-w", "--watch") for word in head)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise Interrupted(f"interrupted by {signal.Signals(number).name}", signal=number)


def _run(argv: Sequence[str], state: dict[str, Any]) -> int:
    from bbctl.render import screen

    said = os.environ.get("BBCTL_OUTPUT")
    state["output"] = said or "table"
    if "json" in argv[:-1] or any(w in ("-ojson", "--output=json") for w in argv):
        state["output"] = _guess(argv, state["output"])
    words = sort(argv)
    state["output"] = words.output or state["output"]
    state["inventory"] = words.inventory
    # Help is for people: where a document is due, what is missing is an error.
    told = state["output"] not in ("json", "yaml")
    if not words.rest and not told:
        raise UsageError("a command is needed", next="bbctl --help")
    if not words.rest or words.rest[0] in ("--help", "-h", "help"):
        screen.out(overview())
        return 0 if words.rest else 2
    noun = NOUNS.get(words.rest[0], words.rest[0])
    asked = words.rest[1:2] in (("--help",), ("-h",))
    if noun in nouns() and noun not in COMMANDS and (asked or (told and len(words.rest) == 1)):
        screen.out(noun_help(noun))
        return 0 if asked else 2
    command, rest = find(words.rest)
    state["command"] = command
    state["output"] = output_of(command, words.output, said)
    tail = words.tail or ()
    if words.tail is not None and not command.tail:
        rest = [*rest, "--", *tail]
    return _call(command, rest, words, tail, state["output"])


def _guess(argv: Sequence[str], default: str) -> str:
    """What `-o` says even where the words cannot be sorted: so that this very complaint comes as JSON."""
    head = argv[: argv.index("--")] if "--" in argv else argv
    pairs = zip(head, [*head[1:], ""], strict=False)
    return "json" if any(a in ("-o", "--output") and b == "json" for a, b in pairs) else default


def output_of(command: Command, flag: str | None, environ: str | None) -> str:
    """The output word in force. One that the command does not know: UsageError from the flag, its default from the environment."""
    known = command.formats
    if flag is not None and flag not in known:
        raise UsageError(
            f"-o {flag}: bbctl {command.name} prints {', '.join(known)}", next=f"bbctl {command.name} -o json"
        )
    return flag or (environ if environ and environ in known else known[0])


def _call(command: Command, rest: list[str], words: Words, tail: tuple[str, ...], output: str) -> int:
    import typer

    from bbctl.cli.front import Call

    call = Call(
        command=command.name,
        inventory=words.inventory,
        output=output,
        yes=words.yes,
        tail=tail,
        words=tuple(sys.argv[1:]),
    )
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command(
        name=command.name,
        epilog="Everywhere: -i/--inventory FILE, -o/--output " + "|".join(command.formats) + ", -y/--yes.",
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    )(_piped(load(command)))
    code = typer.main.get_command(app).main(rest, prog_name=f"bbctl {command.name}", standalone_mode=False, obj=call)
    return int(code or 0)


def _piped(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def called(*args: Any, **said: Any) -> Any:
        try:
            return function(*args, **said)
        except BrokenPipeError:
            raise _NobodyReads from None
        except KeyboardInterrupt:  # Typer would end without a word, and `-o json` without a document
            raise Interrupted("interrupted") from None

    return called


def load(command: Command) -> Callable[..., Any]:
    """The command's function."""
    module, _, name = command.where.partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(f"bbctl.cli.{module}"), name)
    return function


def translate(error: Exception, state: dict[str, Any]) -> BbctlError:
    """Another library's or layer's error as one of ours: words typed wrongly, the engine's, or a defect of bbctl."""
    if _was_interrupted(error):
        return Interrupted("interrupted")
    shown = getattr(error, "format_message", None)
    if shown is not None and hasattr(error, "exit_code"):  # Typer's usage errors
        return UsageError(str(shown()), next=_help(state))
    if type(error).__module__ == "engine.errors":
        return BbctlError(
            str(error),
            code=getattr(error, "code", "failed"),
            exit=getattr(error, "exit", 1),
            next=getattr(error, "next", None),
        )
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        where = f"{error.filename} could not be written" if error.filename else "something could not be written"
        return BbctlError(f"{where}: no space is left on its device", code="no-space", next="df -h")
    if type(error).__name__ in ("Abort", "Exit"):
        return BbctlError("not finished", exit=int(getattr(error, "exit_code", 1)))
    home = Path(os.environ.get("BBCTL_HOME") or Path.home() / ".local/state/bbctl")
    return BbctlError(defects.told(home, error), code="defect")


def _help(state: dict[str, Any]) -> str:
    command: Command | None = state["command"]
    return f"bbctl {command.name} --help" if command else "bbctl --help"


def _was_interrupted(error: BaseException | None) -> bool:
    """Whether a Ctrl-C is behind it: one that fell into the making of a class, say, comes up as another error."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__cause__ or error.__context__
    return False


def report(error: BbctlError, state: dict[str, Any]) -> int:
    """Print an error the way the call asked for and give its exit code."""
    from bbctl.render import plain, screen

    command: Command | None = state["command"]
    try:
        if state["output"] in ("json", "yaml"):
            value = error.result if error.result is not None else {"error": dict(error.as_json())}
            if state["lines"] and state["output"] == "json":
                plain.line(value)
            else:
                plain.emit(value, state["output"])
        else:
            with screen.commands_for(state.get("inventory")):
                said = screen.typed(error.next) if error.next else None
            screen.error(error.message, next=said, refused=error.exit == 3)
    except OSError as lost:  # nobody reads, or there is no room: what went wrong stays the exit code
        _unread(error.exit)
        if not isinstance(lost, BrokenPipeError):
            screen.error(error.message, next=error.next, refused=error.exit == 3)
    watched = (
        command is not None and command.usage_exit == 3 and error.exit < 128
    )  # 1 and 2 would be verdicts, 4 nothing
    return 3 if watched else error.exit
