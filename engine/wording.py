"""What a person is told about a node: why it stands still, the proof, and what to type next, safest first. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from engine.model import Node
from engine.rows import Row, elder_twin, left_after_shutdown
from engine.scene import Scene, owes, paused_by, refused_completion, since_when, unfinished
from engine.states import CLIENT_LETTER

SHOWN = 3  # names in a list, before "and 7 more"


@dataclass(frozen=True)
class Usual:
    """How long a step takes, ms, over its last `count` completions."""

    count: int = 0
    median: int = 0
    p95: int = 0


@dataclass(frozen=True)
class Option:
    """One thing to do. `warning`: what it may cost."""

    label: str
    command: str
    warning: str = ""


@dataclass(frozen=True, kw_only=True)
class Telling:
    """All that the words about one node draw on. `since` is ms; `workers` how many live."""

    scene: Scene
    node: Node
    row: Row
    since: int | None
    usual: Usual = Usual()
    late: bool = False
    limit: int | None = None  # ms after which it is late
    workers: int | None = None
    unhandled: bool = False  # no living worker has loaded its handler

    @property
    def client(self) -> str:
        record = (self.scene.clients or {}).get(self.node.client)
        return record.name if record else "its client"

    @property
    def waited(self) -> str:
        return age(self.scene.now - self.since) if self.since is not None else "some time"


def age(ms: float) -> str:
    """`0.4s`, `42s`, `4m14s`, `6h3m`, `12d4h`."""
    s = max(0.0, ms / 1000)
    if s < 10:
        return f"{s:.1f}s"
    if s < 60:
        return f"{s:.0f}s"
    if s < 3600:
        return f"{int(s // 60)}m{int(s % 60):02d}s"
    if s < 86400:
        return f"{int(s // 3600)}h{int(s % 3600 // 60)}m"
    return f"{int(s // 86400)}d{int(s % 86400 // 3600)}h"


def clock(ms: int | None, now: int) -> str:
    """A time of day in UTC, with the date where it is another day's than `now`."""
    if ms is None:
        return "an unknown time"
    at, today = (datetime.fromtimestamp(min(max(t, 0), 253_402_300_799_000) / 1000, UTC) for t in (ms, now))
    return (
        f"{at:%H:%M:%S}"
        if at.date() == today.date()
        else f"{at:%a %b %d %H:%M:%S}"
        if at.year == today.year
        else f"{at:%Y-%m-%d}"
    )


def listed(nodes: Sequence[Node]) -> str:
    names = [n.name for n in nodes[:SHOWN]]
    more = f" and {len(nodes) - SHOWN} more" if len(nodes) > SHOWN else ""
    return ", ".join(names) + more if more or len(names) < 2 else f"{', '.join(names[:-1])} and {names[-1]}"


def last_error(node: Node) -> tuple[int, str] | None:
    """When its client last failed, and what it said, in one line."""
    for line in reversed(node.h or []):
        if line[1][1] == CLIENT_LETTER["errored"] and "refused" not in line[3:]:
            return int(line[0]), said(line[2] if len(line) > 2 else None)
    return None


def said(response: str | None) -> str:
    """A stored response (JSON text) in one line: its message where it has one."""
    try:
        value: Any = json.loads(response) if response else None
    except ValueError:
        value = response
    for _ in range(3):
        inner = next((value[k] for k in ("error", "message") if isinstance(value, dict) and value.get(k)), None)
        if inner is None:
            break
        value = inner
    if value in (None, {}, ""):
        return "nothing was said"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return " ".join(text.split())[:200]


# -- why -----------------------------------------------------------------------------------------------------------


def _with_client(t: Telling) -> str:
    at = clock(t.since, t.scene.now)
    if owes(t.node, "post"):
        return f"being delivered to {t.client} since {at}"
    if t.node.cs == "processing":
        return f"{t.client} took it {at}, no answer for {t.waited}"
    return f"sent to {t.client} {at}, no answer for {t.waited}"


def _retry(t: Telling) -> str:
    initial, left = t.node.retries
    return f"failed; retry {max(1, initial - left)} of {initial} at {clock(t.node.fires_at, t.scene.now)}, {left} left after it"


def _behind(t: Telling) -> str:
    before = t.scene.blockers.get(t.node.id)
    return f"waits for {before.name}" if before else t.row.says


def _deciding(t: Telling) -> str:
    parent = t.scene.parent(t.node)
    return f"waits until {parent.name} has decided" if parent else t.row.says


def _paused(t: Telling) -> str:
    root = t.scene.root(t.node)
    at = (root.paused or {}).get("at") if root else None
    return f"paused by {paused_by(t.scene, root) or 'nobody known'} since {clock(at, t.scene.now)}"


def _below(t: Telling) -> str:
    return f"waits for {listed(unfinished(t.scene, t.node))}"


def _person(t: Telling) -> str:
    if t.node.ss == "errored":
        return "the engine gave it up; it waits for a person"
    attempts = t.node.retries[0] - t.node.retries[1] + 1
    return f"failed {attempts} time{'s' if attempts != 1 else ''}, no retry left; it waits for a person"


def _worked(t: Telling) -> str:
    if t.unhandled:
        return f"no worker has loaded a handler named {t.node.name}"
    if t.node.by:
        return f"worked by {t.node.by} since {clock(t.node.since, t.scene.now)}"
    return "about to be worked"


def _circle(t: Telling) -> str:
    names = [t.scene.nodes[id].name for id in t.scene.knotted.get(t.node.id, ())]
    return "waits for itself: " + " → ".join([*names, *names[:1]])


def _nobody(t: Telling) -> str:
    due = f"due since {clock(t.since, t.scene.now)}"
    return f"{due}, and no worker lives" if not t.workers else f"{due}, {t.workers} worker(s) live and are behind"


BECAUSE: dict[str, Callable[[Telling], str]] = {
    "W1": lambda t: f"waits for its time: {clock(t.node.fires_at, t.scene.now)}",
    "W2": _with_client,
    "W3": _retry,
    "W4": _behind,
    "W5": _deciding,
    "W6": _paused,
    "W7": _below,
    "W8": _person,
    "W9": _worked,
    "I3": lambda t: f"started {clock(t.since, t.scene.now)}, and never delivered to {t.client}",
    "I4": lambda t: f"sent to {t.client} {clock(t.since, t.scene.now)}, no answer, and nobody watches the time",
    "I5": lambda t: (
        f"{t.client} took it {clock(t.since, t.scene.now)}; its time was up {clock(t.node.complete_by, t.scene.now)}"
    ),
    "I13": lambda t: f"shut down by half: {listed(left_after_shutdown(t.scene, t.node))} still live",
    "I19": _circle,
    "I30": _nobody,
}


def because(telling: Telling) -> str:
    tell = BECAUSE.get(telling.row.id)
    return tell(telling) if tell else telling.row.says


# -- the proof -------------------------------------------------------------------------------------------------------


def evidence(t: Telling) -> list[str]:
    """Facts from the record, what was usual first."""
    n, facts = t.node, []
    if t.row.id in ("W2", "I3", "I4", "I5") and t.usual.count:
        facts.append(f"usually {age(t.usual.median)} (p95 {age(t.usual.p95)}, {t.usual.count} completions)")
    if t.late and t.limit is not None:
        facts.append(f"late: more than {age(t.limit)}")
    if n.ss == "sent_to_client":
        deadline = f"deadline {clock(n.complete_by, t.scene.now)}" if n.complete_by else "no deadline"
        facts.append(f"{deadline} · attempt {n.attempt} of {n.retries[0] + 1}")
        status = n.sent[2] if n.sent and n.sent[0] == n.attempt else None
        facts.append(f"{f'HTTP {status}' if status else 'no HTTP answer'} · key {n.id}:{n.attempt}")
    if (failed := last_error(n)) and n.ss not in ("complete", "deactivated"):
        facts.append(f'last error {clock(failed[0], t.scene.now)}: "{failed[1]}"')
    if t.row.mode != "W":
        facts += _state(t)
    if t.unhandled:
        facts.append(
            f"{t.client} has no endpoint: its steps run in workers · {t.workers} live, none of them knows this one"
        )
    if t.row.id == "W8" and (behind := _held_up(t)):
        facts.append(f"behind it: {listed(behind)}")
    return facts


def _state(t: Telling) -> list[str]:
    n = t.node
    due = f"due {clock(n.due, t.scene.now)}" if n.due is not None else "nothing is owed"
    facts = [f"{n.ss}/{n.cs}, last written {clock(n.changed, t.scene.now)} · {due}"]
    if n.do:
        facts.append("owes " + ", ".join(n.do))
    if (late := refused_completion(n)) is not None:
        facts.append(f'its client answered: "{said(late)}"')
    if t.row.id == "I22" and (twin := elder_twin(t.scene, n)):
        facts.append(f"the same as {twin.tail}, {age(n.created - twin.created)} after it")
    return facts


def _held_up(t: Telling) -> list[Node]:
    family = t.scene.kids.get(t.node.parent or "", ())
    later = [k for k in family if k.pgen == t.node.pgen and k.seq > t.node.seq and k.ss in ("ready", "pending")]
    return later if t.node.mode == "blocking" else []


# -- what to type ----------------------------------------------------------------------------------------------------


def options(t: Telling) -> list[Option]:
    """Never empty."""
    id, wf = t.node.tail or t.node.id, t.node.wf[-8:]
    twice = f"! done twice unless {t.client} honours key {id}:{t.node.attempt + 1}"
    look = Option("look at it", f"bbctl wf show {id}")
    ask = Option(f"ask {t.client}", f"bbctl wf show {id} --request")
    retry = Option("run it again", f"bbctl wf retry {id}", f"as attempt {t.node.attempt + 1}")
    if t.row.id in ("W2", "I3", "I4", "I5") and (t.late or t.row.mode != "W"):
        done = Option("it was done", f"bbctl wf resolve {id}")
        not_done = Option("it was not", f"bbctl wf retry {id}", twice)
        return [ask, *([_heal(t, wf)] if t.row.mode != "W" else []), done, not_done]
    if t.row.id == "W8":
        ways = [Option("go on without it", f"bbctl wf resolve {id}"), Option("give it up", f"bbctl wf shutdown {id}")]
        return [ask, retry, *(ways if t.node.ss != "errored" else []), Option("drop it", f"bbctl wf cancel {id}")]
    if t.unhandled:
        return [Option("load its handler", "bbctl work --import MODULE"), Option("the queue", "bbctl queues")]
    if t.row.id in _OPTIONS:
        return _OPTIONS[t.row.id](t)
    return [_heal(t, wf) if t.row.mode in ("A", "C") else look]


def _heal(t: Telling, wf: str) -> Option:
    label = "repair it" if t.row.mode == "A" else "see what repairing does"
    return Option(label, f"bbctl wf heal {wf} --apply" if t.row.mode == "A" else f"bbctl wf heal {wf}")


def _cancel(t: Telling) -> list[Option]:
    return [
        Option("its history", f"bbctl wf history {t.node.tail}"),
        Option("drop it", f"bbctl wf cancel {t.node.tail}"),
    ]


def _history(t: Telling) -> list[Option]:
    return [Option("its history", f"bbctl wf history {t.node.tail}")]


_OPTIONS: dict[str, Callable[[Telling], list[Option]]] = {
    "W3": lambda t: [
        Option("wait, or run it now", f"bbctl wf retry {t.node.tail}", f"as attempt {t.node.attempt + 1}")
    ],
    "W6": lambda t: [Option("go on", f"bbctl wf resume {t.node.wf[-8:]}")],
    "W9": lambda t: [Option("the queue", "bbctl queues")],
    "I16": _cancel,
    "I17": _cancel,
    "I20": _cancel,
    "I22": _cancel,
    "I23": _history,
    "I26": _history,
    "I27": _history,
    "I30": lambda t: [Option("the queue", "bbctl queues") if t.workers else Option("start a worker", "bbctl work")],
}


# -- groups ----------------------------------------------------------------------------------------------------------

_PARTICULAR = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}|0x[0-9a-f]+|\d+", re.IGNORECASE)


def cause(t: Telling) -> str:
    """What nodes held up in the same way share: the row, the client, the step, the error without its particulars."""
    failed = last_error(t.node)
    error = _PARTICULAR.sub("#", failed[1]).lower()[:120] if failed and t.row.id in ("W3", "W8", "I15", "I16") else ""
    return "|".join((t.row.id, "late" if t.late else "", t.client, t.node.name, error))


def wait_began(n: Node, row: Row) -> int | None:
    """Since when a node waits as it does, ms."""
    if row.id == "I30":
        return n.due if n.due is not None else n.changed
    if row.id == "W2" and n.cs == "processing":
        return since_when(n, client="processing") or n.changed
    return since_when(n, server=n.ss) or n.changed or n.created or None
