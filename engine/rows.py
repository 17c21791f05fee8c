"""Every state an unfinished node can be in, as one table: the healthy waits W and the inconsistent states I.

A row tells itself from stored state alone. Several may fit; they are tried in the order of ORDER and the first is the
cause. Mode A repairs itself, C is repaired after a person's yes, R is for a person to decide, W needs nobody but for W8.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from engine.events import looks, openness
from engine.model import Node
from engine.scene import (
    Scene,
    active,
    counts,
    old,
    owed,
    owes,
    pair,
    paused,
    refused_completion,
    since_when,
    spent,
    stale,
    unfinished,
    waits_its_turn,
    whole,
    written,
)
from engine.states import DONE, FINAL_CLIENT, LEGAL_PAIRS, WAITING

Mode = Literal["A", "C", "R", "W"]
Verdict = Literal["waiting", "late", "stuck", "needs-person"]
Test = Callable[[Scene, Node], bool]

MAX_TRIES = 5
TWINS = 10_000  # ms between two posts of the same thing that look like one sent twice
LEFT_ON_FINAL = ("tell", "prune", "cut", "clear", "notify")
"""Todos that a finished node may have: a rescue that resolves its node does so before its notification is answered."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """`action` is what heal does (engine.heal.ACTIONS); a `remark` is worth saying and makes no wait unhealthy.

    `whole`: only a scene of the whole workflow shows it.
    """

    id: str
    says: str
    mode: Mode
    test: Test
    action: str = "nothing"
    remark: bool = False
    whole: bool = False

    @property
    def verdict(self) -> Verdict:
        if self.mode == "W":
            return "needs-person" if self.id == "W8" else "waiting"
        return "needs-person" if self.mode == "R" and self.id not in ("I19", "I30") else "stuck"


# -- healthy waits -------------------------------------------------------------------------------------------------


def _timer(s: Scene, n: Node) -> bool:
    return pair(n) == ("started", "ready") and n.fires_at is not None and n.fires_at > s.now


def _with_client(s: Scene, n: Node) -> bool:
    with_client = n.ss == "sent_to_client" and n.cs in ("received", "processing")
    return with_client and n.complete_by is not None and n.complete_by > s.now


def _retry_waits(s: Scene, n: Node) -> bool:
    return pair(n) == ("retrying", "errored") and n.fires_at is not None and n.fires_at > s.now


def _behind(s: Scene, n: Node) -> bool:
    return waits_its_turn(s, n) and n.id in s.blockers


def _parent_decides(s: Scene, n: Node) -> bool:
    parent = s.parent(n)
    return n.ss == "pending" and parent is not None and not parent.is_workflow and not looks(parent)


def _paused(s: Scene, n: Node) -> bool:
    return paused(s, n) and (n.ss in ("paused", "started") or (waits_its_turn(s, n) and n.id not in s.blockers))


def _waits_below(s: Scene, n: Node) -> bool:
    return n.ss == "processing_children" and n.cs in FINAL_CLIENT and bool(unfinished(s, n))


def _needs_person(s: Scene, n: Node) -> bool:
    return n.ss in ("retries_exhausted", "errored")


def _in_hand(s: Scene, n: Node) -> bool:
    """Held by a worker, or due and about to be; a waiting child is its parent's. Or it has only just changed."""
    return any(d >= s.now - s.grace for d in _dues(s, n)) or _told(s, n) or not old(s, n)


def _dues(s: Scene, n: Node) -> list[int]:
    """When a worker must look at it: at itself, or at the one in whose hands it is."""
    parent, root = s.parent(n), s.root(n)
    dues = [n.due]
    if parent is not None and (n.ss in WAITING or stale(s, n)):
        dues.append(parent.due)
    if root is not None and n.ss == "paused":
        dues.append(root.due)
    return [d for d in dues if d is not None]


def _told(s: Scene, n: Node) -> bool:
    """Is a look at it on its way, its own or, for one that waits its turn, its parent's?"""
    return n.id in s.told or (n.ss in WAITING and n.parent in s.told)


# -- inconsistent states -------------------------------------------------------------------------------------------


def _impossible(s: Scene, n: Node) -> bool:
    return not n.is_workflow and n.cs not in LEGAL_PAIRS.get(n.ss, ())


def _orphan(s: Scene, n: Node) -> bool:
    lost_client = s.clients is not None and n.client not in s.clients
    return lost_client or (not n.is_workflow and (s.parent(n) is None or s.root(n) is None))


def _poisoned(s: Scene, n: Node) -> bool:
    return (n.tries or 0) > MAX_TRIES and n.parked is None


def _not_due(s: Scene, n: Node) -> bool:
    return bool(n.do or n.look) and not owed(n) and n.parked is None


def _open_differs(s: Scene, n: Node) -> bool:
    return not n.is_workflow and n.open != openness(n)


def _half_canceled(s: Scene, n: Node) -> bool:
    parent = s.parent(n)
    return active(n) and parent is not None and parent.ss == "deactivated" and stale(s, n) and _unpruned(parent)


def _old_attempt(s: Scene, n: Node) -> bool:
    parent = s.parent(n)
    left = active(n) and parent is not None and parent.ss != "deactivated" and stale(s, n)
    return left and old(s, n) and parent is not None and _unpruned(parent)


def _unpruned(parent: Node) -> bool:
    return not (owes(parent, "prune") and owed(parent))


def _half_error(s: Scene, n: Node) -> bool:
    return pair(n) == ("sent_to_client", "errored") and old(s, n)


def _never_ready(s: Scene, n: Node) -> bool:
    if n.ss != "processing_children" or n.cs not in FINAL_CLIENT or _in_motion(s, n):
        return False
    return any(k.ss == "pending" and k.id not in s.blockers for k in s.counted(n))


def _in_motion(s: Scene, n: Node) -> bool:
    return owed(n) or n.id in s.told or paused(s, n)


def _unseen_end(s: Scene, n: Node) -> bool:
    waits = n.ss == "processing_children" and n.cs in FINAL_CLIENT and not owed(n) and n.id not in s.told
    return waits and not unfinished(s, n) and not _half_shutdown(s, n)  # that one is cut first


def _completion_lost(s: Scene, n: Node) -> bool:
    return _unseen_end(s, n) and all(k.ss != "deactivated" for k in s.linked.get(n.id, ()))


def _dead_link(s: Scene, n: Node) -> bool:
    return _unseen_end(s, n) and any(k.ss == "deactivated" for k in s.linked.get(n.id, ()))


def _half_shutdown(s: Scene, n: Node) -> bool:
    if n.cs != "shutdown" or n.mode != "blocking" or not active(n) or (owes(n, "cut") and owed(n)):
        return False
    return bool(left_after_shutdown(s, n))


def left_after_shutdown(s: Scene, n: Node) -> list[Node]:
    """Its live later siblings of its attempt; none if one came after the shutdown, which a cut would take along."""
    at = since_when(n, client="shutdown")
    family = s.kids.get(n.parent or "", ())
    left = [k for k in family if k.pgen == n.pgen and k.seq > n.seq and active(k)]
    return left if at and all(k.created <= at for k in left) else []


def _left_paused(s: Scene, n: Node) -> bool:
    root = s.root(n)
    resumed = root is not None and root.paused is None and not (owes(root, "resume") and owed(root))
    return n.ss == "paused" and not owed(n) and resumed


def _never_started(s: Scene, n: Node) -> bool:
    parent = s.parent(n)
    if parent is None or not waits_its_turn(s, n) or n.id in s.blockers or paused(s, n):
        return False
    return not owed(n) and not owed(parent) and not _told(s, n) and old(s, n)


def _start_lost(s: Scene, n: Node) -> bool:
    return pair(n) == ("started", "ready") and not owed(n)


def _sent(n: Node) -> bool:
    return bool(n.sent) and n.sent is not None and n.sent[0] == n.attempt


def _not_delivered(s: Scene, n: Node) -> bool:
    return pair(n) == ("sent_to_client", "received") and not owed(n) and not _sent(n)


def _silent(s: Scene, n: Node) -> bool:
    return pair(n) == ("sent_to_client", "received") and not owed(n) and _sent(n)


def _overdue(s: Scene, n: Node) -> bool:
    slow = pair(n) == ("sent_to_client", "processing") and n.complete_by is not None and n.complete_by < s.now
    return slow and not (owes(n, "timeout") and owed(n) and _reaped(s, n))


def _reaped(s: Scene, n: Node) -> bool:
    client = (s.clients or {}).get(n.client)
    return client is not None and client.reap


def _no_deadline(s: Scene, n: Node) -> bool:
    return n.ss == "sent_to_client" and n.complete_by is None


def _retry_lost(s: Scene, n: Node) -> bool:
    return pair(n) == ("retrying", "errored") and not owed(n)


def _half_failed(s: Scene, n: Node) -> bool:
    return n.ss == "errored" and n.cs in ("ready", "received", "processing") and refused_completion(n) is None


def _finished_on_error(s: Scene, n: Node) -> bool:
    return n.ss == "errored" and refused_completion(n) is not None


def _late_child(s: Scene, n: Node) -> bool:
    parent = s.parent(n)
    return n.ss == "pending" and parent is not None and parent.ss in DONE and counts(s, n)


def _deadlock(s: Scene, n: Node) -> bool:
    return n.id in s.knotted


def _closed(s: Scene, n: Node) -> bool:
    root = s.root(n)
    return root is not None and bool(root.complete) and active(n) and s.now - root.changed > s.grace


def _gap(s: Scene, n: Node) -> bool:
    last = written(n)
    return last is not None and last != pair(n)


def _twin(s: Scene, n: Node) -> bool:
    return active(n) and elder_twin(s, n) is not None


def elder_twin(s: Scene, n: Node) -> Node | None:
    """A live sibling posted up to ten seconds before, the same in name and data, neither with an idempotency key."""
    digest = s.digests.get(n.id)
    if digest is None or n.key:
        return None
    for k in s.kids.get(n.parent or "", ()):
        same = k.name == n.name and k.pgen == n.pgen and s.digests.get(k.id) == digest
        if same and active(k) and not k.key and 0 < n.created - k.created <= TWINS:
            return k
    return None


def _stray_deadline(s: Scene, n: Node) -> bool:
    todos = [t for t in n.do or {} if t not in LEFT_ON_FINAL]
    return not n.is_workflow and n.ss in DONE and (n.complete_by is not None or bool(todos))


def _budget(s: Scene, n: Node) -> bool:
    return active(n) and whole(n) and n.retries[0] - spent(n) != n.retries[1]


def _nobody_works(s: Scene, n: Node) -> bool:
    dues = _dues(s, n)
    only_news = _needs_person(s, n) and set(n.do or {}) <= {"notify"}  # that it needs a person is worse
    return bool(dues) and max(dues) < s.now - s.grace and not only_news


# -- the table, in the order in which rows are tried ---------------------------------------------------------------

_I = (
    Row(id="I27", says="statuses that cannot stand together", mode="R", test=_impossible),
    Row(id="I23", says="its parent, workflow or client is gone", mode="R", test=_orphan),
    Row(id="I24", says="taken up again and again without a result", mode="A", test=_poisoned, action="park"),
    Row(id="I28", says="something is owed, and no time to do it", mode="A", test=_not_due, action="due"),
    Row(
        id="I29",
        says="its mark for the scheduler disagrees with its status",
        mode="A",
        test=_open_differs,
        action="open",
    ),
    Row(id="I18", says="its parent was canceled, it was not", mode="A", test=_half_canceled, action="prune"),
    Row(id="I9", says="left over from an attempt before", mode="A", test=_old_attempt, action="prune"),
    Row(id="I7", says="its error was noted and not acted on", mode="A", test=_half_error, action="error"),
    Row(id="I10", says="its children were never made ready", mode="A", test=_never_ready, action="look"),
    Row(id="I11", says="all it waits for is done, and nobody noticed", mode="A", test=_completion_lost, action="look"),
    Row(id="I12", says="waits for a link that was deactivated", mode="C", test=_dead_link, action="look"),
    Row(id="I13", says="shut down by half: what follows still lives", mode="A", test=_half_shutdown, action="cut"),
    Row(id="I14", says="left paused after a resume", mode="A", test=_left_paused, action="start"),
    Row(id="I1", says="ready, and never started", mode="A", test=_never_started, action="look at parent"),
    Row(id="I2", says="started, and its start was lost", mode="A", test=_start_lost, action="start"),
    Row(id="I3", says="never delivered to its client", mode="A", test=_not_delivered, action="post"),
    Row(id="I4", says="its client is silent, and nobody watches the time", mode="A", test=_silent, action="timeout"),
    Row(id="I5", says="its client took it, and its time is up", mode="C", test=_overdue, action="time out"),
    Row(id="I6", says="with its client, without a deadline", mode="A", test=_no_deadline, action="deadline"),
    Row(id="I8", says="its retry was lost", mode="A", test=_retry_lost, action="retry"),
    Row(id="I15", says="the engine failed it, its client did not", mode="C", test=_half_failed, action="run again"),
    Row(id="I16", says="its client finished it after it had failed", mode="R", test=_finished_on_error),
    Row(id="I17", says="came after its parent had finished", mode="R", test=_late_child),
    Row(id="I19", says="waits for itself", mode="R", test=_deadlock, whole=True),
    Row(id="I20", says="its workflow is closed, it lives", mode="R", test=_closed, remark=True),
    Row(id="I21", says="its history does not end where it stands", mode="A", test=_gap, action="reconstruct"),
    Row(id="I22", says="probably sent twice", mode="R", test=_twin, remark=True),
    Row(id="I25", says="finished, with a deadline or a todo left over", mode="A", test=_stray_deadline, action="clear"),
    Row(id="I26", says="its retries left disagree with its history", mode="R", test=_budget, remark=True),
    Row(id="I30", says="due, and nobody works", mode="R", test=_nobody_works),
)
_W = (
    Row(id="W6", says="paused", mode="W", test=_paused),
    Row(id="W1", says="waiting for its time", mode="W", test=_timer),
    Row(id="W2", says="waiting for its client", mode="W", test=_with_client),
    Row(id="W3", says="failed, waiting for its retry", mode="W", test=_retry_waits),
    Row(id="W4", says="waiting for an earlier step", mode="W", test=_behind),
    Row(id="W5", says="its parent is still deciding", mode="W", test=_parent_decides),
    Row(id="W7", says="waiting for its children", mode="W", test=_waits_below),
    Row(id="W8", says="needs a person", mode="W", test=_needs_person),
    Row(id="W9", says="being worked", mode="W", test=_in_hand),
)
ORDER: tuple[Row, ...] = (*_I, *_W)
ROWS: dict[str, Row] = {row.id: row for row in ORDER}


_FOR_WORKFLOWS = ("I23", "I24", "I28", "I30")
_FOR_FINISHED = ("I27", "I23", "I24", "I28", "I29", "I25", "I21", "I30")
_FOR_STALE = ("I27", "I23", "I29", "I18", "I9", "I30", "W9")


def matches(scene: Scene, node: Node) -> list[Row]:
    """The rows that fit, the cause first; none for a node that is finished and tidy, or a workflow that owes nothing.

    What an attempt before has left is only that: whatever else its state says, nobody goes by it any more.
    """
    tried = ORDER
    if node.is_workflow:
        tried = _only(_FOR_WORKFLOWS)
    elif not active(node):
        tried = _only(_FOR_FINISHED)
    elif stale(scene, node):
        tried = _only(_FOR_STALE)
    return [row for row in tried if row.test(scene, node)]


def _only(ids: tuple[str, ...]) -> tuple[Row, ...]:
    return tuple(row for row in ORDER if row.id in ids)


def first(rows: Sequence[Row]) -> Row | None:
    """The cause: the first that is no mere remark, else the first."""
    return next((row for row in rows if not row.remark), rows[0] if rows else None)
