"""A playbook: what is done on each host, and how many at a time. YAML → Playbook → (variables set) → Procedure.

Lock, preflight, capacity, the question, the journal and unlock are the runner's: no author can forget them. A step does
one thing on one host and is named as the run record names it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from bbctl.durations import parse_duration
from bbctl.errors import UsageError
from bbctl.model import HostOutcome
from bbctl.near import hint, shown
from bbctl.schema import (
    DURATION_LEAF,
    NAME_LEAF,
    TEXT,
    Key,
    Leaf,
    Many,
    Record,
    Table,
    as_map,
    fill,
    one_of,
    read,
    whole,
)
from bbctl.yamlfile import Map, Node, Scalar, Seq
from bbctl.yamlfile import load as load_yaml

# -- the words ---------------------------------------------------------------------------------------------------

SIGNALS = ("KILL", "TERM", "QUIT", "INT", "HUP")


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of step. `args`: what may follow its word; `arg`: the name of a single value; `bare`: what the word alone means."""

    about: str
    args: Leaf | Record | None = None
    arg: str = ""
    bare: Mapping[str, Any] = field(default_factory=dict)


_COUNT = whole(1, 100)
KINDS: dict[str, Kind] = {
    "drain": Kind(about="take the host out of its VIP"),
    "settle": Kind(about="wait until it is drained; a duration replaces the VIP's own", args=DURATION_LEAF, arg="for"),
    "stop": Kind(about="run the service's stop command and wait until its process is gone or proven hung"),
    "evidence": Kind(
        about="save thread dumps and the end of the log",
        args=Record(
            what="what to save",
            keys={
                "dumps": Key(kind=whole(0, 20), doc="thread dumps", default="3"),
                "every": Key(kind=DURATION_LEAF, doc="between two dumps", default="2s"),
                "log_lines": Key(kind=whole(0, 100_000), doc="lines from the end of the log", default="2000"),
            },
        ),
        bare={"dumps": 3, "every": 2.0, "log_lines": 2000},
    ),
    "kill": Kind(
        about="signal the proven process, and verify that it is gone",
        args=one_of(*SIGNALS),
        arg="signal",
        bare={"signal": "KILL"},
    ),
    "start": Kind(about="run the service's start command"),
    "started": Kind(about="wait for the line in the log that proves the start"),
    "health": Kind(
        about="healthy so many times in a row, the process the same all the while",
        args=Record(
            what="what replaces the service's own",
            keys={
                "times": Key(kind=_COUNT, doc="good answers in a row"),
                "interval": Key(kind=DURATION_LEAF, doc="between two questions"),
                "timeout": Key(kind=DURATION_LEAF, doc="for all of it"),
            },
        ),
    ),
    "undrain": Kind(about="put the host back into its VIP"),
}

# What `when` and `unless` may ask of the host, at the moment of the step.
FACTS: dict[str, str] = {
    "hung": "the process hangs in its stop",
    "running": "the process runs and does not hang",
    "stopped": "there is no process",
    "in": "the host is in its VIP",
    "out": "the host is out of its VIP",
}

_SAME = {"true": "yes", "false": "no"}  # two words for one thing, wherever a boolean is said

OnFailure = Literal["stop", "continue"]


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step. `when`/`unless` are facts; conditions on variables are decided when the variables are set."""

    kind: str
    name: str | None = None
    args: Mapping[str, Any] = field(default_factory=dict)
    when: str | None = None
    unless: str | None = None
    timeout: float | None = None
    retries: int = 0
    on_failure: OnFailure = "stop"


@dataclass(frozen=True, kw_only=True)
class Strategy:
    """How many at a time. `max_failures` is absolute, for the whole run: it goes on while at most so many hosts failed."""

    batch: int = 1
    max_failures: int = 0
    canary: bool = False
    soak: float = 0.0
    pause: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Var:
    type: Literal["integer", "string", "boolean", "duration"] = "string"
    default: str | None = None
    min: int | None = None
    max: int | None = None
    choices: tuple[str, ...] = ()
    about: str = ""


@dataclass(frozen=True, kw_only=True)
class Playbook:
    """A file that was read and found right. What variables stand for is not filled in yet."""

    name: str
    source: Path
    about: str = ""
    problem: str = ""
    severity: int | None = None
    runbook: str | None = None
    targets: str | None = None
    service: str | None = None
    vars: Mapping[str, Var] = field(default_factory=dict)
    strategy: Node | None = None
    steps: tuple[Node, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Procedure:
    """What will be done, every variable set. It travels in the journal, so a resume does what was agreed to."""

    name: str
    steps: tuple[Step, ...]
    strategy: Strategy
    goal: HostOutcome

    def has(self, *kinds: str) -> bool:
        return any(s.kind in kinds for s in self.steps)


# -- reading -----------------------------------------------------------------------------------------------------

VARIABLE = Record(
    what="a variable",
    build=Var,
    keys={
        "type": Key(
            kind=one_of("integer", "string", "boolean", "duration"), doc="how a value is read", default="string"
        ),
        "default": Key(kind=TEXT, doc="without it, --set must give a value"),
        "min": Key(kind=whole(0, 10**9), doc="least integer"),
        "max": Key(kind=whole(0, 10**9), doc="greatest integer"),
        "choices": Key(kind=Many(of=TEXT, what="a list of words"), doc="the only values"),
        "about": Key(kind=TEXT, doc="what it is for"),
    },
)
_FLAG = one_of("yes", "no", "true", "false")
STRATEGY = Record(
    what="how many at a time",
    keys={
        "batch": Key(kind=_COUNT, doc="hosts at a time", default="1"),
        "max_failures": Key(kind=whole(0, 10_000), doc="hosts that may fail, for the whole run", default="0"),
        "canary": Key(kind=_FLAG, doc="the first host alone", default="no"),
        "soak": Key(kind=DURATION_LEAF, doc="wait after the canary", default="0s"),
        "pause": Key(kind=DURATION_LEAF, doc="wait between batches", default="0s"),
    },
)
HEAD: dict[str, Key] = {
    "name": Key(kind=NAME_LEAF, doc="what `playbook run` calls it", required=True),
    "problem": Key(kind=TEXT, doc="its row in RUNBOOK.md"),
    "severity": Key(kind=whole(1, 5), doc="as in the runbook's legend"),
    "runbook": Key(kind=TEXT, doc="the runbook's anchor"),
    "about": Key(kind=TEXT, doc="one line"),
    "targets": Key(kind=TEXT, doc="where TARGET is left out"),
    "service": Key(kind=NAME_LEAF, doc="where --service is left out"),
    "vars": Key(kind=Table(what="variables", of=VARIABLE, empty_ok=True), doc="what --set may set"),
    "on_failure": Key(kind=one_of("stop"), doc="this host stays out of the VIP, the rest is untouched"),
}
_OTHER = ("strategy", "steps")
MODIFIERS: dict[str, Key] = {
    "when": Key(kind=TEXT, doc="a fact, or {var: value}"),
    "unless": Key(kind=TEXT, doc="a fact, or {var: value}"),
    "timeout": Key(kind=DURATION_LEAF, doc="the step fails after this"),
    "retries": Key(kind=whole(0, 20), doc="tried again so often"),
    "on_failure": Key(kind=one_of("stop", "continue"), doc="continue: a failure is noted, the host goes on"),
    "name": Key(kind=TEXT, doc="what people see"),
}


def load(path: Path) -> Playbook:
    """Read and check one playbook. ConfigError (`file:line: …`) for whatever is wrong in it."""
    root = as_map(load_yaml(path), "a playbook", "")
    keys = Record(what="a playbook", keys=HEAD)
    for name in root.items:
        if name not in (*HEAD, *_OTHER):
            raise root.error(f"unknown key {shown(name)}{hint(name, (*HEAD, *_OTHER))}", line=root.lines[name])
    head = Map(root.source, root.line, {k: v for k, v in root.items.items() if k in HEAD}, root.lines)
    said = read(head, keys)
    said.pop("on_failure", None)
    steps = root.items.get("steps")
    if not isinstance(steps, Seq) or not steps.items:
        raise root.error("steps: expected a list of steps", line=root.lines.get("steps"))
    book = Playbook(**said, source=path, strategy=root.items.get("strategy"), steps=steps.items)
    proven(book)
    return book


def proven(book: Playbook) -> Procedure:
    """The playbook with its defaults in. ConfigError where even that cannot be: what `playbook check` proves."""
    samples = {"integer": "1", "string": "x", "boolean": "no", "duration": "1s"}
    values: dict[str, str] = {}
    for name, var in book.vars.items():
        text = var.default if var.default is not None else (*var.choices, samples[var.type])[0]
        try:
            value(name, var, text)
        except UsageError as wrong:
            assert book.steps
            raise book.steps[0].error(f"vars.{name}: {wrong.message}", line=1) from None
        values[name] = text
    return _bound(book, values)


def bind(book: Playbook, sets: Mapping[str, str]) -> Procedure:
    """The playbook with its variables set. UsageError for an unknown variable, a bad or a missing value."""
    for name in sets:
        if name not in book.vars:
            raise UsageError(
                f"playbook {book.name} has no variable {shown(name)}{hint(name, book.vars)}",
                next=f"bbctl playbook show {book.name}",
            )
    values: dict[str, str] = {}
    for name, var in book.vars.items():
        text = sets.get(name, var.default)
        if text is None:
            raise UsageError(f"playbook {book.name} needs {name}", next=f"add --set {name}=…")
        value(name, var, text)
        values[name] = text
    return _bound(book, values)


def value(name: str, var: Var, text: str) -> None:
    """UsageError unless `text` is a value of `var`."""

    def wrong(expected: str) -> UsageError:
        return UsageError(f"{name}={text}: expected {expected}")

    if var.choices and text not in var.choices:
        raise wrong(" or ".join(var.choices))
    if var.type == "integer":
        low, high = var.min or 0, 10**9 if var.max is None else var.max
        if not (text.isascii() and text.isdigit()) or not low <= int(text) <= high:
            raise wrong(f"digits, {low} to {high}")
    elif var.type == "boolean" and text not in ("yes", "no", "true", "false"):
        raise wrong("yes or no")
    elif var.type == "duration":
        try:
            parse_duration(text)
        except ValueError as error:
            raise wrong(str(error).removeprefix("expected ")) from None


def _bound(book: Playbook, values: Mapping[str, str]) -> Procedure:
    made = [_step(node, values) for node in book.steps]
    steps = tuple(step for step in made if step is not None)
    for at, step in enumerate(steps):
        if step.kind == "kill" and step.args["signal"] == "KILL" and not any(s.kind == "evidence" for s in steps[:at]):
            raise book.steps[0].error("a step `kill: KILL` needs a step `evidence` before it")
    said = read(fill(book.strategy, STRATEGY, values), STRATEGY, where="strategy") if book.strategy else {}
    said["canary"] = said.get("canary") in ("yes", "true")
    return Procedure(name=book.name, steps=steps, strategy=Strategy(**said), goal=goal([s.kind for s in steps]))


def goal(kinds: Sequence[str]) -> HostOutcome:
    """What a host is called on which all these steps succeeded."""
    have = set(kinds)
    table: tuple[tuple[bool, HostOutcome], ...] = (
        ("start" in have and bool(have & {"stop", "kill"}), "restarted"),
        ("start" in have, "started"),
        (bool(have & {"stop", "kill"}), "stopped"),
        ("undrain" in have, "undrained"),
        ("drain" in have, "drained"),
    )
    return next((word for true, word in table if true), "skipped")


def _step(node: Node, values: Mapping[str, str]) -> Step | None:
    """One step; None where a condition on a variable leaves it out."""
    if isinstance(node, Scalar):
        return Step(kind=_known(node, node.text), args=dict(KINDS[node.text].bare))
    if not isinstance(node, Map) or not node.items:
        raise node.error(f"a step is a word or a map: one of {', '.join(KINDS)}")
    words = [name for name in node.items if name not in MODIFIERS]
    if len(words) != 1:
        raise node.error(f"a step has one kind, found {', '.join(map(shown, words)) or 'none'}")
    word = _known(node, words[0], line=node.lines[words[0]])
    rest = {k: v for k, v in node.items.items() if k in MODIFIERS}
    facts: dict[str, str | None] = {"when": None, "unless": None}
    left_out = False
    for name in ("when", "unless"):
        if (condition := rest.pop(name, None)) is not None:
            facts[name], holds = _condition(condition, name, values)
            left_out |= facts[name] is None and holds != (name == "when")
    said = read(
        fill(Map(node.source, node.line, rest, node.lines), None, values), Record(what="a step", keys=MODIFIERS)
    )
    args = _args(fill(node.items[word], KINDS[word].args, values), word)
    return None if left_out else Step(kind=word, args=args, when=facts["when"], unless=facts["unless"], **said)


def _known(node: Node, word: str, *, line: int | None = None) -> str:
    if word not in KINDS:
        raise node.error(
            f"unknown step {shown(word)}{hint(word, KINDS) or ': known are ' + ', '.join(KINDS)}", line=line
        )
    return word


def _args(node: Node, word: str) -> dict[str, Any]:
    kind = KINDS[word]
    if isinstance(node, Scalar) and node.empty:
        return dict(kind.bare)
    if kind.args is None:
        raise node.error(f"the step {word} takes nothing")
    said = read(node, kind.args, where=word)
    return {kind.arg: said} if kind.arg else dict(said)


def _condition(node: Node, where: str, values: Mapping[str, str]) -> tuple[str | None, bool]:
    """A fact by name, to be asked when the step's turn comes; or a variable's value, decided here."""
    if isinstance(node, Scalar):
        if node.text not in FACTS:
            raise node.error(
                f"{where}: unknown fact {shown(node.text)}{hint(node.text, FACTS)}: known are {', '.join(FACTS)}"
            )
        return node.text, True
    if not isinstance(node, Map) or len(node.items) != 1:
        raise node.error(f"{where}: expected a fact ({', '.join(FACTS)}) or {{variable: value}}")
    (name, wanted), *_ = node.items.items()
    if name not in values:
        raise node.error(f"{where}: no variable {shown(name)}{hint(name, values)}")
    if not isinstance(wanted, Scalar):
        raise wanted.error(f"{where}: expected one value")
    return None, _SAME.get(values[name], values[name]) == _SAME.get(wanted.text, wanted.text)


# -- finding -----------------------------------------------------------------------------------------------------


def find(name: str, folders: Sequence[Path]) -> Path:
    """The file of a playbook: a path, or NAME.yml in the first folder that has it. UsageError names near ones."""
    if "/" in name or name.endswith((".yml", ".yaml")):
        return Path(name)
    for folder in folders:
        if (path := folder / f"{name}.yml").is_file():
            return path
    known = {p.stem for folder in folders for p in folder.glob("*.yml")}
    raise UsageError(
        f"no playbook {shown(name)}{hint(name, known)}", next="bbctl playbook list", code="unknown-playbook"
    )


def every(folders: Sequence[Path]) -> list[Path]:
    """All playbooks, a site's own before a shipped one of the same name; by name."""
    found: dict[str, Path] = {}
    for folder in reversed(folders):
        found |= {path.stem: path for path in sorted(folder.glob("*.yml"))}
    return [found[name] for name in sorted(found)]
