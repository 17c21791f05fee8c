"""Who may ask the engine: clients, their endpoints and their tokens.

A token is 256 random bits, shown once and kept as its SHA-256. Only an operator can set an endpoint.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import shlex
from dataclasses import replace

from engine import events, ids
from engine.client import check_endpoint
from engine.errors import BadRequest, Conflict, NotFound
from engine.model import ClientRecord
from engine.mongo import UNFINISHED, Duplicate
from engine.runtime import Runtime
from engine.task import Outcome, described

__all__ = [
    "add_client",
    "addressed",
    "change_client",
    "check_token",
    "client_named",
    "get_client",
    "list_clients",
    "remove_client",
    "rotate_token",
]


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
    if not name.strip():
        raise BadRequest("name", "a client needs a name")
    token = secrets.token_urlsafe(32)
    now = rt.store.now()
    record = ClientRecord(
        id=ids.new_id(now),
        name=name,
        activity_endpoint=activity_endpoint or None,
        notification_endpoint=notification_endpoint or None,
        decision_endpoint=decision_endpoint or None,
        timeout=timeout,
        reap=reap,
        token=_digest(token),
        created=now,
    )
    _check(record)
    try:
        rt.store.add_client(record)
    except Duplicate:
        raise BadRequest("name", f"there is a client named {name} already") from None
    rt.forget_client(record.id)
    return record, token


def change_client(rt: Runtime, id: str, **given: str | float | None) -> ClientRecord:
    """The client with what is `given` of its endpoints and its timeout in place of what it had, None for none of it; in
    force everywhere within a second. BadRequest as `add_client`; NotFound."""
    before = client_named(rt, id)
    changed: ClientRecord = replace(before, **given)  # type: ignore[arg-type]
    _check(changed)
    if not (changed.activity_endpoint and changed.notification_endpoint):
        raise BadRequest("activity_endpoint", "an HTTP client needs an activity endpoint and a notification endpoint")
    rt.store.set_client(before.id, **given)
    rt.forget_client(before.id)
    return changed


def _check(record: ClientRecord) -> None:
    """BadRequest: it could not be asked, or not be told."""
    if record.timeout is not None and not 0 < record.timeout <= 3600:
        raise BadRequest("timeout", "timeout is between 0 and 3600 seconds")
    for field in ("activity_endpoint", "notification_endpoint", "decision_endpoint"):
        if url := getattr(record, field):
            check_endpoint(field, url)


def list_clients(rt: Runtime) -> list[ClientRecord]:
    """All, sorted by name without regard to case."""
    return sorted(rt.store.clients({}), key=lambda client: (client.name.lower(), client.id))


def get_client(rt: Runtime, id: str) -> ClientRecord:
    """NotFound if there is none; BadRequest if `id` is no uuid."""
    if not ids.is_id(id):
        raise BadRequest("id", f"{id} is no id")
    found = rt.client(id)
    if found is None:
        raise NotFound("User", id)
    return found


def client_named(rt: Runtime, name: str) -> ClientRecord:
    """By name or id."""
    found = next(iter(rt.store.clients({"$or": [{"name": name}, {"_id": name}]})), None)
    if found is None:
        raise NotFound("User", name)
    return found


def addressed(rt: Runtime, outcome: Outcome) -> Outcome:
    """`outcome` with the ids of the clients that its children are for; a failure where there is no such client."""
    if not any(new.client for new in outcome.children):
        return outcome
    try:
        made = [replace(new, client=_id_of(rt, new.client)) if new.client else new for new in outcome.children]
    except BadRequest as error:
        return Outcome(error=events.text({"error": described(error)}))
    return replace(outcome, children=tuple(made))


def _id_of(rt: Runtime, client: str) -> str:
    if rt.client(client) is not None:
        return client
    try:
        return client_named(rt, client).id
    except NotFound:
        raise BadRequest("client", f"there is no client {client}") from None


def rotate_token(rt: Runtime, id: str) -> tuple[ClientRecord, str]:
    """A new token; the old one is worth nothing from now on (elsewhere: within a second)."""
    record = client_named(rt, id)
    token = secrets.token_urlsafe(32)
    rt.store.set_client(record.id, token=_digest(token))
    rt.forget_client(record.id)
    return replace(record, token=_digest(token)), token


def remove_client(rt: Runtime, id: str) -> None:
    """Conflict while it has unfinished nodes."""
    record = client_named(rt, id)
    if rt.store.count({"client": record.id, "kind": "node", "ss": {"$in": UNFINISHED}}, limit=1):
        message = f"{record.name} has unfinished nodes: finish or cancel them first"
        raise Conflict(message, next=f"bbctl wf list --client {shlex.quote(record.name)}")
    rt.store.remove_client(record.id)
    rt.forget_client(record.id)


def check_token(rt: Runtime, id: str, token: str) -> bool:
    """Compared in constant time; a client is remembered for about a second."""
    record = rt.client(id)
    return hmac.compare_digest(record.token if record else "", _digest(token)) and record is not None


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
