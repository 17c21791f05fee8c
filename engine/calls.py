"""What the HTTP API does: one function for each route. Parameters in, one question to the engine, a JSON value out."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine import present, workflows
from engine.errors import BadRequest, NotFound
from engine.model import MODES, TYPES, Health, NewNode, Search
from engine.params import Params, as_text, as_uuid, read_json, snake_keys
from engine.retry import DEFAULT_INTERVAL, DEFAULT_RETRIES
from engine.runtime import Runtime
from engine.states import CLIENT, SERVER

STATUS_WORDS = frozenset({*SERVER, *CLIENT})
HEALTH_SECONDS = 1.0  # a health answer is good for that long: many VIPs may ask
SUCCESS = {"success": True}


@dataclass(frozen=True)
class Answer:
    """An answer with a status of its own."""

    status: int
    body: Any


@dataclass(frozen=True)
class Written:
    """An answer that is JSON text already."""

    text: str


@dataclass
class Door:
    """What belongs to the process that serves, not to the store: its description, its switch, its counters."""

    openapi: Written
    heartbeat: Path | None = None
    version: str = ""
    answers: Counter[int] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)
    seen: tuple[float, Health] | None = None

    def answered(self, status: int) -> None:
        """Called by the event loop only."""
        self.answers[status] += 1

    def health(self, rt: Runtime) -> Health:
        """At most about a second old; only one thread asks the stores."""
        with self.lock:
            if self.seen is None or time.monotonic() - self.seen[0] > HEALTH_SECONDS:
                found = workflows.health(rt)
                self.seen = (time.monotonic(), found)
            return self.seen[1]


@dataclass(frozen=True, kw_only=True)
class Ask:
    """One request, understood. `client` is empty on an open route; `names` are the segments that stood for names;
    `tid` names this request in its answer and in our log."""

    rt: Runtime
    door: Door
    client: str
    names: Mapping[str, str]
    params: Params
    tid: str = ""
    key: str | None = None
    attempt: int | None = None

    @property
    def id(self) -> str:
        return as_uuid(self.names["id"], "id")

    @property
    def workflow_id(self) -> str | None:
        """Narrows an activity to one workflow: from the path, else a parameter."""
        named = self.names.get("workflow_id")
        return as_uuid(named, "workflow_id") if named is not None else self.params.uuid("workflow_id")


# -- workflows ---------------------------------------------------------------------------------------------------


def create_workflow(ask: Ask) -> Any:
    params = ask.params
    name = params.text("workflow_type") or params.need_text("name")
    subject = params.get("subject")
    if subject is None:
        raise BadRequest("subject", "subject is missing")
    decider = params.need_text("decider")
    made = workflows.create_workflow(ask.rt, ask.client, name=name, subject=subject, decider=decider, key=ask.key)
    return present.workflow(made)


def find_workflow(ask: Ask) -> Any:
    """All of subject, decider and name must fit. The subject comes as its JSON text, or, if it is a plain text, as that."""
    params = ask.params
    name, decider = params.get("workflow_type") or params.get("name"), params.get("decider")
    said = params.get("subject")
    if isinstance(name, str) and isinstance(decider, str):
        for subject in _subjects(said):
            try:
                found = workflows.find_workflow(ask.rt, ask.client, subject=subject, decider=decider, name=name)
            except NotFound:
                continue
            return present.workflow(found)
    raise NotFound("Workflow", "nothing" if said is None else str(said)[:200])


def _subjects(said: Any) -> list[Any]:
    if not isinstance(said, str):
        return [] if said is None else [said]
    try:
        return [snake_keys(read_json(said.encode("utf-8"), "subject")), said]
    except BadRequest:
        return [said]


def get_workflow(ask: Ask) -> Any:
    return present.workflow(workflows.get_workflow(ask.rt, ask.client, ask.id))


def names(ask: Ask) -> Any:
    return workflows.names(ask.rt, ask.client)


def children(ask: Ask) -> Any:
    root = workflows.get_workflow(ask.rt, ask.client, ask.id)
    return present.nodes(workflows.children(ask.rt, ask.client, root.id), root)


def nodes(ask: Ask) -> Any:
    root = workflows.get_workflow(ask.rt, ask.client, ask.id)
    wanted = _filled(ask.params)
    server, client = wanted.text("current_server_status"), wanted.text("current_client_status")
    if (server and server not in SERVER) or (client and client not in CLIENT):
        return []
    return present.nodes(workflows.nodes(ask.rt, ask.client, root.id, server=server, client_status=client), root)


def tree(ask: Ask) -> Any:
    return Written(present.tree_text(*workflows.tree(ask.rt, ask.client, ask.id)))


def print_tree(ask: Ask) -> Any:
    return {"print": present.tree_print(*workflows.tree(ask.rt, ask.client, ask.id))}


def signal(ask: Ask) -> Any:
    said = dict(ask.params.values)
    said["name"] = ask.names.get("name") or said.get("name")
    said["type"], said["mode"] = "decision", "blocking"
    made = workflows.signal(ask.rt, ask.client, ask.id, new_node(said, ask.tid), key=ask.key)
    return present.node(made, workflows.get_workflow(ask.rt, ask.client, ask.id))


def _complete(ask: Ask) -> Any:
    workflows.complete(ask.rt, ask.client, ask.id)
    return SUCCESS


def _pause(ask: Ask) -> Any:
    workflows.pause(ask.rt, ask.client, ask.id, by=ask.client)
    return SUCCESS


def _resume(ask: Ask) -> Any:
    workflows.resume(ask.rt, ask.client, ask.id)
    return SUCCESS


VERBS: dict[str, Callable[[Ask], Any]] = {"complete": _complete, "pause": _pause, "resume": _resume}


def error_workflows(ask: Ask) -> Any:
    return [present.raw_workflow(root) for root in workflows.error_workflows(ask.rt, ask.client)]


# -- searches ----------------------------------------------------------------------------------------------------


def _filled(params: Params) -> Params:
    """Without what was left empty, as a form's unused fields are."""
    return Params({name: value for name, value in params.values.items() if value != ""})


def _search(params: Params, text: str) -> Search | None:
    """What to look for; None where it can only find nothing: no parameter at all, a status that does not exist, a
    piece that no JSON text can hold."""
    params = _filled(params)
    status, past_status, piece = params.text("current_status"), params.text("past_status"), params.text(text)
    if not params.values or {status, past_status} - STATUS_WORDS - {None} or "\0" in (piece or ""):
        return None
    page = params.count("page", 1)
    if page < 1:
        raise BadRequest("page", "page begins at 1")
    wanted = Search(
        name=params.text("name"),
        text=piece,
        status=status,
        past_status=past_status,
        since=params.time("status_start"),
        until=params.time("status_end"),
        per_page=params.count("per_page", 25),
        page=page,
        last_id=params.uuid("last_id"),
    )
    return wanted if wanted.per_page else None


def search_workflows(ask: Ask) -> Any:
    wanted = _search(ask.params, "subject")
    found = workflows.search_workflows(ask.rt, ask.client, wanted) if wanted else []
    return [present.workflow(root) for root in found]


def search_activities(ask: Ask) -> Any:
    wanted = _search(ask.params, "metadata")
    return present.found_nodes(workflows.search_activities(ask.rt, ask.client, wanted)) if wanted else []


# -- activities --------------------------------------------------------------------------------------------------


def get_activity(ask: Ask) -> Any:
    found = workflows.get_node(ask.rt, ask.client, ask.id, workflow_id=ask.workflow_id)
    return present.node(found.node, found.root)


def errors(ask: Ask) -> Any:
    found = workflows.errors(ask.rt, ask.client, ask.id, workflow_id=ask.workflow_id)
    return [present.status_change(change) for change in found]


def response(ask: Ask) -> Any:
    return workflows.last_response(ask.rt, ask.client, ask.id, workflow_id=ask.workflow_id)


def status_changes(ask: Ask) -> Any:
    found = workflows.status_changes(ask.rt, ask.client, ask.id, workflow_id=ask.workflow_id)
    return [present.status_change(change) for change in found]


def change_status(ask: Ask) -> Any:
    said, args = ask.params.get("response"), ask.params.get("args")
    if said is None or (said is False and args is not None):  # as Ruby's `response || args` chooses between the two
        said = args
    workflows.change_status(
        ask.rt, ask.client, ask.id, ask.names["new"], response=said, attempt=ask.attempt, workflow_id=ask.workflow_id
    )
    return SUCCESS


def schedule(ask: Ask) -> Any:
    workflows.schedule(ask.rt, ask.client, ask.id, workflow_id=ask.workflow_id)
    return True


def restart(ask: Ask) -> Any:
    workflows.retry_now(ask.rt, ask.client, ask.id, workflow_id=ask.workflow_id)
    return SUCCESS


def reset(ask: Ask) -> Any:
    workflows.reset(ask.rt, ask.client, ask.id, workflow_id=ask.workflow_id)
    return SUCCESS


def decisions(ask: Ask) -> Any:
    said = ask.params.get("decisions")
    args = ask.params.get("args")
    if said is None and isinstance(args, dict):
        said = args.get("decisions")
    if not isinstance(said, list):
        workflows.get_node(ask.rt, ask.client, ask.id, workflow_id=ask.workflow_id)  # NotFound comes first
        raise BadRequest("decisions", "Params must include a 'decisions' param")
    new = [new_node(one, ask.tid) for one in said]
    return workflows.add_children(
        ask.rt, ask.client, ask.id, new, key=ask.key, attempt=ask.attempt, workflow_id=ask.workflow_id
    )


def new_node(said: Any, tid: str | None = None) -> NewNode:
    """A signal or decision as it was sent. Its data is in `options` or beside it; a type we do not know is an activity."""
    if not isinstance(said, dict):
        raise BadRequest("decisions", "A decision must be a JSON object")
    params = Params(said)
    options = said.get("options")
    if options is None:
        options = said
    elif not isinstance(options, dict):
        raise BadRequest("options", "options must be a JSON object")
    data, meta = ({} if options.get(name) is None else options[name] for name in ("client_data", "metadata"))
    kind = as_text(said["type"], "type") if said.get("type") is not None else "activity"
    return NewNode(
        name=params.need_text("name"),
        type=kind if kind in TYPES else "activity",
        mode=params.word("mode", frozenset(MODES)) or "blocking",
        data=data,
        meta=meta,
        fires_at=params.time("fires_at"),
        retry=params.count("retry", DEFAULT_RETRIES),
        retry_interval=params.count("retry_interval", DEFAULT_INTERVAL),
        client=params.uuid("client_id"),
        link=Params(options).uuid("parent_link_id") or params.uuid("parent_link_id"),
        tid=tid,
    )


# -- around ------------------------------------------------------------------------------------------------------


def users(ask: Ask) -> Any:
    return [present.user(client) for client in workflows.list_clients(ask.rt)]


def user(ask: Ask) -> Any:
    return present.user(workflows.get_client(ask.rt, ask.id))


def health(ask: Ask) -> Any:
    found = ask.door.health(ask.rt)
    body = present.health(found, now=int(time.time() * 1000), version=ask.door.version)
    return Answer(200 if found.ok else 503, body)


def heartbeat(ask: Ask) -> Any:
    """The VIP's switch. It asks no store: a store that is down must not take every host out of the VIP at once."""
    switch = ask.door.heartbeat
    if switch is None or switch.exists():
        return Answer(200, "backbeat is alive\n")
    return Answer(503, f"out of service: {switch.name} is not there\n")


def sidekiq_stats(ask: Ask) -> Any:
    return present.sidekiq_stats(workflows.stats(ask.rt))


def metrics(ask: Ask) -> Any:
    """With MongoDB gone it says so quickly, and what this process knows of itself."""
    found = ask.door.health(ask.rt)
    stats = workflows.stats(ask.rt) if found.ok else None
    return present.prometheus(present.samples(found, stats, dict(ask.door.answers)))


def openapi(ask: Ask) -> Any:
    return ask.door.openapi
