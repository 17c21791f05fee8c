"""The records of the engine: the node as it is stored, and what one may ask for or get back.

Workflows are nodes too (`kind: workflow`), so that a workflow and its first signal, or "finish this and look at the
parent", are one command of the store. Times are milliseconds since the epoch by the database's clock.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from engine.retry import DEFAULT_INTERVAL, DEFAULT_RETRIES

Mode = Literal["blocking", "non_blocking", "fire_and_forget"]
MODES = ("blocking", "non_blocking", "fire_and_forget")
TYPES = ("decision", "activity", "flag")

Line = list[Any]
"""One line of history: [ms, pair of letters, response as JSON text or None, "refused" if it changed nothing]."""


@dataclass
class Node:
    """A workflow, signal, decision or activity; fields are the stored ones, absent = None.

    Only events and the drivers that carry them out change one, and only their own copy.
    """

    _id: str = ""
    tail: str = ""
    kind: str = "node"  # workflow | node
    name: str = ""
    type: str = "activity"
    client: str = ""
    decider: str | None = None  # workflows only, as are subject, complete and paused
    mode: str = "blocking"
    subject: str | None = None  # JSON text
    shash: str | None = None  # hash of the subject, unique with client and name
    complete: bool | None = None
    paused: dict[str, Any] | None = None  # {"by": who, "at": ms}

    wf: str = ""
    parent: str | None = None  # the workflow's id for a signal, None for a workflow
    seq: int = 0  # siblings strictly ordered, comparable across the workflow; microseconds
    last: int | None = None  # seq of the last child ever added
    created: int = 0
    changed: int = 0

    ss: str = "ready"
    cs: str = "ready"
    attempt: int = 1
    retries: list[int] = field(default_factory=lambda: [DEFAULT_RETRIES, DEFAULT_RETRIES])  # [initial, left]
    retry_interval: int = DEFAULT_INTERVAL
    fires_at: int | None = None  # when it may start; while retrying, when the retry comes
    complete_by: int | None = None
    sent: list[Any] | None = None  # [attempt, ms, HTTP status] of the last post

    rev: str = ""  # replaced by every state write: version, claim and fence in one
    due: int | None = None  # when a worker must look next; None: nothing is owed
    by: str | None = None  # the worker that holds it
    since: int | None = None  # when that worker took it
    tries: int | None = None  # claims since the last commit
    parked: str | None = None
    do: dict[str, Any] | None = None  # what is owed: {event: argument}
    look: str | None = None  # token: "look at my children"

    gen: str | None = None  # whose children count: a child counts if its pgen is its parent's gen
    pgen: str | None = None
    open: str | None = None  # r: ready or pending; b, n: under way; None: done, or forgotten and under way
    link: str | None = None  # the node whose completion this one holds back
    links: bool | None = None  # somebody links here

    known: bool | None = None  # its id was told to whoever posted it: it may be deactivated, never deleted
    tid: str | None = None  # X-backbeat-tid of the call that made it; None: no call over HTTP did
    key: str | None = None  # hash of an idempotency key, unique
    body: str | None = None  # hash of what was sent with it
    data: str = "{}"  # JSON texts
    meta: str = "{}"

    h: list[Line] | None = None  # history; None also where it was not read
    hn: int = 0  # its lines
    hb: int = 0  # its bytes, about
    hs: int = 0  # lines moved out of the node
    lines: list[Line] = field(default_factory=list)  # not stored: what an event has added

    @property
    def id(self) -> str:
        return self._id

    @property
    def is_workflow(self) -> bool:
        return self.kind == "workflow"

    @property
    def client_data(self) -> Any:
        return json.loads(self.data)

    @property
    def metadata(self) -> Any:
        return json.loads(self.meta)

    @property
    def subject_value(self) -> Any:
        return None if self.subject is None else json.loads(self.subject)

    @property
    def retries_left(self) -> int:
        return self.retries[1]

    @property
    def timeout(self) -> float | None:
        """Seconds the client asked for in its data, or None."""
        if '"timeout"' not in self.data:
            return None
        data = self.client_data
        value = data.get("timeout") if isinstance(data, dict) else None
        ok = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 10**9
        return float(value) if ok and value is not None else None

    def copy(self) -> Node:
        twin = object.__new__(Node)
        twin.__dict__.update(self.__dict__)
        return twin


@dataclass(frozen=True, kw_only=True)
class NewNode:
    """What a signal or a decision asks for. `fires_at` in ms; `client` and `link` are ids; `tid` is the call's own."""

    name: str
    type: str = "activity"
    mode: str = "blocking"
    data: Any = field(default_factory=dict)
    meta: Any = field(default_factory=dict)
    fires_at: int | None = None
    retry: int = DEFAULT_RETRIES
    retry_interval: int = DEFAULT_INTERVAL
    client: str | None = None
    link: str | None = None
    tid: str | None = None


@dataclass(frozen=True, kw_only=True)
class NewWorkflow:
    """One workflow with its first signal, for `start_many`."""

    name: str
    subject: Any
    signal: NewNode
    decider: str | None = None
    key: str | None = None


@dataclass(frozen=True, kw_only=True)
class ClientRecord:
    """Who may ask and who is asked. Without endpoints its handlers are Python functions in the workers' process.

    `timeout` is our deadline for one POST, seconds. `reap` lets a node time out that its client has begun to process
    (Backbeat never does). `token` is the SHA-256 of the token.
    """

    id: str
    name: str
    activity_endpoint: str | None = None
    notification_endpoint: str | None = None
    decision_endpoint: str | None = None
    timeout: float | None = None
    reap: bool = False
    token: str = field(default="", repr=False)
    created: int = 0

    @property
    def local(self) -> bool:
        return not self.activity_endpoint


@dataclass(frozen=True)
class Found:
    """A node with its workflow."""

    node: Node
    root: Node


@dataclass(frozen=True, kw_only=True)
class StatusChange:
    """One machine's step. `machine` is "server" or "client"; `response` the JSON value kept with it ({} for none)."""

    node: str
    machine: str
    before: str
    after: str
    at: int
    response: Any = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class HistoryLine:
    """The pair a node reached at `at`; `refused` marks a `completed` that came too late and changed nothing."""

    at: int
    server: str
    client: str
    response: Any = None
    refused: bool = False


@dataclass(frozen=True, kw_only=True)
class Search:
    """Filters of the two searches; None = any. `text`: a piece of the JSON text of the subject (workflows) or metadata.

    `status` is a server or client status now, `past_status` one it had; `since` and `until` (ms) bound when.
    """

    name: str | None = None
    text: str | None = None
    status: str | None = None
    past_status: str | None = None
    since: int | None = None
    until: int | None = None
    per_page: int = 25
    page: int = 1
    last_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class WorkerRecord:
    """A worker's heartbeat. `seen` and `started` in ms; counters since its start; `handlers` are those it has loaded, None
    where it says nothing of them, as workers of an older version do."""

    id: str
    host: str
    pid: int
    started: int
    seen: int
    version: str = ""
    processed: int = 0
    failed: int = 0
    held: int = 0
    redis: bool = True
    handlers: Sequence[str] | None = None


@dataclass(frozen=True, kw_only=True)
class Stats:
    """The engine in figures. Ages in seconds."""

    depth: int  # due now
    latency: float  # age of the oldest due one
    scheduled: int  # timers that wait
    late: int  # timers past their time by more than a second
    next_timer: int | None
    retrying: int
    processed: int
    failed: int
    processed_today: int
    failed_today: int
    workers: tuple[WorkerRecord, ...] = ()
    redis: bool = True


@dataclass(frozen=True, kw_only=True)
class StatusReport:
    """The daily report: per workflow name, nodes completed since then and nodes that look inconsistent now.

    Of the completed it has those made at `made_since` or later. Both in ms.
    """

    since: int
    made_since: int
    completed: dict[str, int] = field(default_factory=dict)
    inconsistent: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Health:
    """Can the stores take work? `mongo` is None when majority writes succeed, else the reason in one line."""

    mongo: str | None
    redis: bool

    @property
    def ok(self) -> bool:
        return self.mongo is None
