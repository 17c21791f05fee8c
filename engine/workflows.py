"""Everything one can ask of the engine: create, find, signal, add children, report a status, pause, search.

`rt` is the Runtime; `client` the id of the client that asks, or None for the operator, who sees all. What belongs to
another client is NotFound, as what does not exist. Every function may raise StoreDown.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine.model import (
    ClientRecord,
    Found,
    Health,
    HistoryLine,
    NewNode,
    NewWorkflow,
    Node,
    Search,
    Stats,
    StatusChange,
    StatusReport,
    WorkerRecord,
)
from engine.runtime import Runtime

# -- clients ---------------------------------------------------------------------------------------------------


def add_client(
    rt: Runtime,
    name: str,
    *,
    activity_endpoint: str | None = None,
    notification_endpoint: str | None = None,
    decision_endpoint: str | None = None,
    timeout: float | None = None,
    reap: bool = False,
) -> tuple[ClientRecord, str]:
    """The new client and its token, which is shown this once only. BadRequest: a bad URL, a link-local one, a name taken."""
    raise NotImplementedError


def list_clients(rt: Runtime) -> list[ClientRecord]:
    """All, sorted by name without regard to case."""
    raise NotImplementedError


def get_client(rt: Runtime, id: str) -> ClientRecord:
    """NotFound if there is none; BadRequest if `id` is no uuid."""
    raise NotImplementedError


def client_named(rt: Runtime, name: str) -> ClientRecord:
    """By name or id."""
    raise NotImplementedError


def rotate_token(rt: Runtime, id: str) -> tuple[ClientRecord, str]:
    raise NotImplementedError


def remove_client(rt: Runtime, id: str) -> None:
    """Conflict while it has unfinished nodes."""
    raise NotImplementedError


def check_token(rt: Runtime, id: str, token: str) -> bool:
    """Compared in constant time; a client is remembered for about a second."""
    raise NotImplementedError


# -- workflows -------------------------------------------------------------------------------------------------


def create_workflow(
    rt: Runtime, client: str, *, name: str, subject: Any, decider: str | None = None, key: str | None = None
) -> Node:
    """Idempotent by (client, name, subject): the existing one comes back, with its old decider, also when complete."""
    raise NotImplementedError


def get_workflow(rt: Runtime, client: str | None, id: str) -> Node:
    raise NotImplementedError


def find_workflow(
    rt: Runtime, client: str | None, *, subject: Any, decider: str | None = None, name: str | None = None
) -> Node:
    """By subject: a JSON value. NotFound if there is none."""
    raise NotImplementedError


def signal(rt: Runtime, client: str | None, workflow_id: str, new: NewNode, *, key: str | None = None) -> Node:
    """WorkflowComplete, BadRequest, or KeyReused where `key` came before with another body."""
    raise NotImplementedError


def start_many(rt: Runtime, client: str, new: Sequence[NewWorkflow]) -> list[tuple[Node, Node]]:
    """Workflows with their first signals, (workflow, signal) in order; about 50 at a time is best."""
    raise NotImplementedError


def pause(rt: Runtime, client: str | None, workflow_id: str, *, by: str | None = None) -> None:
    raise NotImplementedError


def resume(rt: Runtime, client: str | None, workflow_id: str) -> None:
    raise NotImplementedError


def complete(rt: Runtime, client: str | None, workflow_id: str) -> None:
    """Declares it complete: signals are refused from now on; nodes under way go on."""
    raise NotImplementedError


# -- nodes -----------------------------------------------------------------------------------------------------


def add_children(
    rt: Runtime,
    client: str | None,
    node_id: str,
    new: Sequence[NewNode],
    *,
    key: str | None = None,
    attempt: int | None = None,
    workflow_id: str | None = None,
) -> list[str]:
    """Ids in order; all or none. Conflict if the node is complete or deactivated or `attempt` is an old one."""
    raise NotImplementedError


def change_status(
    rt: Runtime,
    client: str | None,
    node_id: str,
    word: str,
    *,
    response: Any = None,
    attempt: int | None = None,
    workflow_id: str | None = None,
) -> None:
    """A client's word (states.CLIENT_WORDS). UnknownStatus, InvalidTransition, Conflict (old attempt).

    On a deactivated node every word succeeds and changes nothing.
    """
    raise NotImplementedError


def retry_now(rt: Runtime, client: str | None, node_id: str, *, workflow_id: str | None = None) -> None:
    """Restart: from retrying, retries_exhausted or errored it runs at once, as the next attempt, and uses no retry."""
    raise NotImplementedError


def resend(rt: Runtime, node_id: str, *, by: str) -> None:
    """The operator's `retry`: as `retry_now`, and also on a node whose client has not answered."""
    raise NotImplementedError


def settle(rt: Runtime, node_id: str, word: str, *, response: Any = None, by: str) -> None:
    """The operator's `resolved` or `shutdown`: also on a node whose client has not answered. Not while it is retrying."""
    raise NotImplementedError


def time_out(rt: Runtime, node_id: str, *, by: str) -> None:
    """The operator's `timeout`: ends the wait for a client as a client error, which uses up a retry."""
    raise NotImplementedError


def reset(rt: Runtime, client: str | None, node_id: str, *, workflow_id: str | None = None) -> None:
    """Deactivates all descendants; the node itself stays as it is."""
    raise NotImplementedError


def schedule(rt: Runtime, client: str | None, node_id: str, *, workflow_id: str | None = None) -> None:
    """Look at its children again."""
    raise NotImplementedError


def cancel(rt: Runtime, client: str | None, node_id: str, *, workflow_id: str | None = None) -> None:
    """As change_status "canceled"."""
    raise NotImplementedError


# -- reads -----------------------------------------------------------------------------------------------------


def get_node(rt: Runtime, client: str | None, id: str, *, workflow_id: str | None = None) -> Found:
    """A node and its workflow, to the node's own client only."""
    raise NotImplementedError


def resolve_id(rt: Runtime, asked: str) -> Node:
    """What a person typed: a full id of a workflow or node, an unambiguous beginning or end, or KEY=VALUE of a subject.

    NotFound or Ambiguous.
    """
    raise NotImplementedError


def children(rt: Runtime, client: str | None, workflow_id: str) -> list[Node]:
    """A workflow's signals, in order."""
    raise NotImplementedError


def nodes(
    rt: Runtime, client: str | None, workflow_id: str, *, server: str | None = None, client_status: str | None = None
) -> list[Node]:
    """All nodes of a workflow in order, or those with these statuses."""
    raise NotImplementedError


def tree(rt: Runtime, client: str | None, workflow_id: str) -> tuple[Node, list[Node]]:
    """The workflow and all its visible nodes; parents come before their children, siblings in order."""
    raise NotImplementedError


def history(rt: Runtime, client: str | None, node_id: str, *, workflow_id: str | None = None) -> list[HistoryLine]:
    """Every pair the node has had, oldest first, lines moved out of the node included."""
    raise NotImplementedError


def status_changes(
    rt: Runtime, client: str | None, node_id: str, *, workflow_id: str | None = None
) -> list[StatusChange]:
    raise NotImplementedError


def errors(rt: Runtime, client: str | None, node_id: str, *, workflow_id: str | None = None) -> list[StatusChange]:
    """The changes of the client status to errored."""
    raise NotImplementedError


def last_response(rt: Runtime, client: str | None, node_id: str, *, workflow_id: str | None = None) -> Any:
    """Response of the last client change; None before any, {} where it had none."""
    raise NotImplementedError


def names(rt: Runtime, client: str | None) -> list[str]:
    raise NotImplementedError


def search_workflows(rt: Runtime, client: str | None, wanted: Search) -> list[Node]:
    """Newest first; only workflows that have a node; [] for a search without filters."""
    raise NotImplementedError


def search_activities(rt: Runtime, client: str | None, wanted: Search) -> list[Found]:
    """Newest first."""
    raise NotImplementedError


def list_workflows(
    rt: Runtime, client: str | None, wanted: Search, *, paused: bool = False, key: str | None = None, value: Any = None
) -> list[Node]:
    """The operator's list: as search_workflows, all if there is no filter; `key`/`value` is a pair of the subject."""
    raise NotImplementedError


def error_workflows(rt: Runtime, client: str | None) -> list[Node]:
    """Workflows with a node whose client status is errored."""
    raise NotImplementedError


def stats(rt: Runtime) -> Stats:
    raise NotImplementedError


def workers(rt: Runtime) -> list[WorkerRecord]:
    raise NotImplementedError


def health(rt: Runtime) -> Health:
    """Never raises: tries one majority write, and Redis."""
    raise NotImplementedError


def report(rt: Runtime, *, since: int) -> StatusReport:
    raise NotImplementedError
