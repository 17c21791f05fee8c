"""The records that travel between the parts of bbctl: what an inventory says, what a host answered, what a run did.

All are frozen and hold no behaviour beyond what can be derived from their own fields. Times are seconds since the
epoch (float), durations seconds (float), paths on hosts `str`, paths here `Path`. Services, VIPs and links of a `Host`
are already substituted for that host: no consumer sees a `{name}`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

# -- what an inventory says ------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Ssh:
    """How a host is logged in to. `config`: an ssh_config read on purpose (never ~/.ssh/config by itself)."""

    user: str
    port: int = 22
    connect_timeout: float = 5.0
    identity_file: Path | None = None
    known_hosts: Path | None = None
    jump: str | None = None
    config: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Process:
    """`match` is a regex searched (ignoring case) in the command line joined by blanks, among processes of `user`."""

    match: str
    user: str
    pidfile: str | None = None


@dataclass(frozen=True, kw_only=True)
class Hang:
    after: str
    within: float


@dataclass(frozen=True, kw_only=True)
class Health:
    url: str
    expect: str | None = None
    times: int = 3
    interval: float = 1.0
    timeout: float = 60.0
    source: Literal["host", "here"] = "host"


@dataclass(frozen=True, kw_only=True)
class Drain:
    """How a host leaves and enters a VIP. `path` for file; `socket host backend server` for haproxy; `out in_ state` for command."""

    kind: Literal["file", "haproxy", "command"]
    settle: float = 5.0
    path: str | None = None
    socket: str | None = None
    host: str | None = None
    backend: str | None = None
    server: str | None = None
    out: tuple[str, ...] = ()
    in_: tuple[str, ...] = ()
    state: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Vip:
    name: str
    address: str | None = None
    drain: Drain | None = None
    min_in_service: int = 0


@dataclass(frozen=True, kw_only=True)
class Service:
    """Everything optional may be None; what a command needs and does not find it names in its refusal."""

    name: str
    start: tuple[str, ...] = ()
    stop: tuple[str, ...] = ()
    run_as: str | None = None
    process: Process | None = None
    log: str | None = None
    started: str | None = None
    stopped: str | None = None
    hang: Hang | None = None
    stop_timeout: float = 120.0
    start_timeout: float = 180.0
    health: Health | None = None
    thread_dump: Literal["sigquit", "jstack", "none"] = "none"
    dump_log: str | None = None
    log_time: str | None = None
    log_zone: str | None = None
    vip: Vip | None = None


@dataclass(frozen=True, kw_only=True)
class Lock:
    """Where the lock of a host lies (on the host) and how long it lives without renewal, by that host's clock."""

    path: str = "~/.bbctl/lock"
    expires: float = 300.0


@dataclass(frozen=True, kw_only=True)
class Host:
    name: str
    address: str
    ssh: Ssh
    aliases: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    groups: tuple[str, ...] = ()
    vars: Mapping[str, str] = field(default_factory=dict)
    services: tuple[Service, ...] = ()
    lock: Lock = field(default_factory=Lock)

    @property
    def short(self) -> str:
        return self.name.split(".", 1)[0]

    def service(self, name: str) -> Service | None:
        return next((s for s in self.services if s.name == name), None)


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """One inventory, resolved. `source` is the file, None for no inventory at all (`BBCTL_INVENTORY=none`)."""

    source: Path | None
    site: str
    hosts: Mapping[str, Host]
    groups: Mapping[str, tuple[str, ...]]
    services: tuple[str, ...] = ()
    vips: Mapping[str, Vip] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    alerts: Mapping[str, Any] = field(default_factory=dict)
    stores: Mapping[str, str] = field(default_factory=dict)
    expected: Mapping[str, float] = field(default_factory=dict)


# -- what a host answered --------------------------------------------------------------------------------------

Status = Literal[
    "ok",
    "failed",
    "timeout",
    "unreachable",
    "auth-failed",
    "host-key",
    "refused",
    "skipped",
    "untouched",
    "interrupted",
]


@dataclass(frozen=True, kw_only=True)
class Ran:
    """One remote command's end. `exit` is None where there was none; `error` is None exactly when `status` is ok."""

    host: str
    status: Status
    exit: int | None = None
    stdout: bytes = b""
    stderr: bytes = b""
    seconds: float = 0.0
    error: str | None = None
    signal: str | None = None
    cut: int = 0  # bytes of output dropped because `keep` was reached
    next: str | None = None  # what a login that failed says to type
    begun: bool = True  # False: logged in, and the login shell ended before it ran the command

    @property
    def ok(self) -> bool:
        return self.status == "ok"

    @property
    def unanswered(self) -> bool:
        """No login, or a connection that broke: whether it was run, and how it ended, is not known."""
        return self.begun and self.exit is None and self.signal is None and self.status in ("failed", "unreachable")

    @property
    def out(self) -> str:
        return self.stdout.decode("utf-8", "replace")

    @property
    def err(self) -> str:
        return self.stderr.decode("utf-8", "replace")


@dataclass(frozen=True, kw_only=True)
class Proc:
    """Who a process is. (`pid`, `ticks`, `boot`) names it once and for all: ticks since boot at its start. `started` is as
    exact as two clocks allow, so it differs by milliseconds from look to look; `born`, as `ps` tells it, is exact to a
    second and never differs. `ended`: none of its threads lives, only its parent has not taken note of it."""

    pid: int
    ticks: int
    started: float
    user: str
    command: str
    ppid: int = 0
    ended: bool = False
    age: float = 0.0
    boot: str = ""
    born: float | None = None


@dataclass(frozen=True, kw_only=True)
class LockRecord:
    """The lock as it lies on a host. `age` and `left` are seconds by that host's clock, at the moment of reading."""

    operator: str
    machine: str
    run: str
    reason: str
    since: float
    step: str
    renewed: float
    expires: float
    token_hash: str
    out: bool = False
    age: float = 0.0
    left: float = 0.0

    @property
    def holder(self) -> str:
        return f"{self.operator}@{self.machine}" if "@" not in self.operator else self.operator


@dataclass(frozen=True, kw_only=True)
class Lease:
    """A host that was drained on purpose: by whom, why, until when (None: without an end). Seconds by the host's clock;
    `left` at the moment of reading, below 0 when it is over."""

    operator: str
    run: str
    reason: str
    since: float
    until: float | None
    left: float | None = None

    @property
    def over(self) -> bool:
        return self.left is not None and self.left <= 0


ProcessState = Literal["running", "stopped", "hung", "unknown"]
HealthState = Literal["ok", "failing", "unknown"]
VipState = Literal["in", "out", "none", "unknown"]


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What one look at one service of one host found. `status` is the login's word; all else is unknown unless it is ok."""

    host: str
    service: str
    status: Status
    error: str | None = None
    next: str | None = None  # what the failed login says to type
    process: ProcessState = "unknown"
    proc: Proc | None = None
    candidates: tuple[
        Proc, ...
    ] = ()  # all that match; more than one, or a pidfile that disagrees: `ambiguous` says why
    ambiguous: str | None = None
    hung_since: float | None = None  # when the last word of the log was written
    hung_line: str | None = None
    health: HealthState = "unknown"
    health_answer: str = ""  # normalised code and body: equal answers on all hosts are a shared cause
    vip: VipState = "unknown"
    vip_error: str | None = None
    serving: bool | None = None  # whether the VIP itself sends it work now; None: it cannot tell
    lock: LockRecord | None = None
    lease: Lease | None = None  # where it is out of the VIP on purpose
    clock_offset: float = 0.0  # host minus here
    log_size: int | None = None
    pidfd: Literal["python3", "perl", "none"] = "none"  # what could send a signal through a pidfd there
    disk_free: Mapping[str, int] = field(default_factory=dict)  # path -> bytes
    seconds: float = 0.0

    @property
    def in_service(self) -> bool:
        good = self.process == "running" and self.health == "ok"
        return self.status == "ok" and self.vip == "in" and self.serving is not False and good


# -- what a run did --------------------------------------------------------------------------------------------

RunOutcome = Literal["done", "failed", "refused", "interrupted", "running"]
HostOutcome = Literal[
    "restarted",
    "started",
    "stopped",
    "drained",
    "undrained",
    "failed",
    "untouched",
    "skipped",
    "interrupted",
    "running",
]
StepOutcome = Literal["ok", "failed", "skipped"]
STEPS = (
    "lock", "preflight", "drain", "settle", "stop", "evidence", "kill", "start", "started", "health", "undrain", "unlock",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class StepRecord:
    step: str
    outcome: StepOutcome
    seconds: float
    detail: str


@dataclass(frozen=True, kw_only=True)
class HostRecord:
    host: str
    outcome: HostOutcome
    hung: bool = False
    killed_pid: int | None = None
    evidence: tuple[str, ...] = ()
    steps: tuple[StepRecord, ...] = ()
    vip: VipState = "unknown"  # where it stands at the end
    step: str | None = None  # the step under way, or the one in which it was cut off

    @property
    def failure(self) -> StepRecord | None:
        """The step that it failed at: the last that failed, for others are taken after it (the lock is given back)."""
        return next((step for step in reversed(self.steps) if step.outcome == "failed"), None)


@dataclass(frozen=True, kw_only=True)
class Elsewhere:
    """Where the journal of a run lies that was made elsewhere. `home` is None where only its locks are known; `age`: how old
    the news of it are, seconds."""

    machine: str
    home: str | None
    age: float


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    run: str
    kind: str
    outcome: RunOutcome
    reason: str
    operator: str
    started: float
    finished: float | None
    hosts: tuple[HostRecord, ...]
    error: Mapping[str, Any] | None = None
    aborted: bool = False
    inventory: str | None = None  # the file it was made with, where that is known
    elsewhere: Elsewhere | None = None  # None: its journal is here


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is wrong: severity 1 (bleeding money) to 5, evidence lines as (label, text), the next command."""

    id: str
    severity: int
    target: str
    title: str
    since: float | None
    evidence: tuple[tuple[str, str], ...]
    runbook: str | None
    next: str
