"""The route table as an OpenAPI 3.1 document. Pure: routes in, a JSON value out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from engine import states
from engine.model import MODES
from engine.params import LIMITS
from engine.routes import Route

JSON = "application/json"


def _object(required: str, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": required.split(), "properties": properties}


def _list(name: str) -> dict[str, Any]:
    return {"type": "array", "items": _ref(name)}


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


ANY: dict[str, Any] = {}
TEXT = {"type": "string"}
FILLED = {"type": "string", "minLength": 1}
UUID = {"type": "string", "format": "uuid"}
TIME = {"type": "string", "format": "date-time"}
COUNT = {"type": "integer", "minimum": 0}
FLAG = {"type": "boolean"}


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "null"}]}


def _up_to(name: str) -> dict[str, Any]:
    return {"type": "integer", "minimum": 0, "maximum": LIMITS[name]}


SERVER = {"type": "string", "enum": list(states.SERVER)}
CLIENT = {"type": "string", "enum": list(states.CLIENT)}
DATA = {"client_data": ANY, "metadata": ANY, "parent_link_id": _or_null(UUID)}
NEW_NODE = {
    "name": FILLED,
    "fires_at": _or_null(TIME),
    "retry": _or_null(_up_to("retry")),
    "retry_interval": _or_null(_up_to("retry_interval")),
    "client_id": _or_null(UUID),
    "options": _or_null({"type": "object", "properties": DATA}),
    **DATA,
}
DECISION = _object(
    "name",
    type=_or_null(FILLED),
    mode=_or_null({"type": "string", "enum": list(MODES)}),
    **NEW_NODE,
)
WORKFLOW = _object(
    "id name subject decider userId createdAt updatedAt complete paused",
    id=UUID, name=TEXT, subject=ANY, decider=_or_null(TEXT), userId=UUID, createdAt=TIME, updatedAt=TIME,
    complete=FLAG, paused=FLAG,
)  # fmt: skip
TREE = _object(
    "id name userId subject mode currentServerStatus currentClientStatus createdAt retryingAt children",
    id=UUID, name=TEXT, userId=UUID, subject=ANY, mode=_or_null(TEXT), currentServerStatus=_or_null(SERVER),
    currentClientStatus=_or_null(CLIENT), createdAt=TIME, retryingAt=_or_null(TIME), children=_list("Tree"),
)  # fmt: skip

SCHEMAS: dict[str, dict[str, Any]] = {
    "Any": ANY,
    "Object": {"type": "object"},
    "Text": TEXT,
    "Success": _object("success", success={"const": True}),
    "Names": {"type": "array", "items": TEXT},
    "Ids": {"type": "array", "items": UUID},
    "Print": _object("print", print=TEXT),
    "Workflow": WORKFLOW,
    "Workflows": _list("Workflow"),
    "RawWorkflows": {"type": "array", "items": {"type": "object"}},
    "Node": _object(
        "id mode name workflowId parentId userId clientData metadata subject decider workflowName currentServerStatus"
        " currentClientStatus createdAt",
        id=UUID, mode={"type": "string", "enum": list(MODES)}, name=TEXT, workflowId=UUID, parentId=_or_null(UUID),
        userId=UUID, clientData=ANY, metadata=ANY, subject=ANY, decider=_or_null(TEXT), workflowName=TEXT,
        currentServerStatus=SERVER, currentClientStatus=CLIENT, createdAt=TIME,
    ),
    "Nodes": _list("Node"),
    "Tree": TREE,
    "Status": _object(
        "nodeId fromStatus toStatus statusType response createdAt",
        nodeId=UUID, fromStatus=TEXT, toStatus=TEXT, response=ANY, createdAt=TIME,
        statusType={"type": "string", "enum": ["current_server_status", "current_client_status"]},
    ),
    "Statuses": _list("Status"),
    "User": _object("id name", id=UUID, name=TEXT),
    "Users": _list("User"),
    "Health": _object("status", status=TEXT),
    "Stats": _object(
        "latency today processed failed enqueued scheduled retry_size",
        latency={"type": "object"}, today=_object("processed failed", processed=COUNT, failed=COUNT), processed=COUNT,
        failed=COUNT, enqueued=COUNT, scheduled=COUNT, retry_size=COUNT,
    ),
    "Error": _object(
        "errorClass message", errorClass=TEXT, message=TEXT, currentStatus=_or_null(TEXT),
        attemptedStatus=_or_null(TEXT),
    ),
    "Unauthorized": _object("error", error=TEXT),
    "NewWorkflow": {
        "type": "object", "required": ["subject", "decider"], "anyOf": [{"required": ["name"]},
                                                                          {"required": ["workflow_type"]}],
        "properties": {"name": FILLED, "workflow_type": FILLED, "subject": {"not": {"type": "null"}},
                       "decider": FILLED},
    },
    "Signal": {"type": "object", "properties": NEW_NODE},
    "Decision": DECISION,
    "Decisions": _object("decisions", decisions=_list("Decision")),
    "Response": {"type": "object", "properties": {"response": ANY, "args": ANY}},
}  # fmt: skip

QUERIES: dict[str, dict[str, Any]] = {
    "subject": TEXT, "decider": TEXT, "name": FILLED, "workflow_type": FILLED, "metadata": FILLED,
    "current_server_status": SERVER, "current_client_status": CLIENT, "workflow_id": UUID, "last_id": UUID,
    "current_status": {"type": "string", "enum": sorted({*states.SERVER, *states.CLIENT})},
    "past_status": {"type": "string", "enum": sorted({*states.SERVER, *states.CLIENT})},
    "status_start": TIME, "status_end": TIME,
    "per_page": _up_to("per_page"), "page": {**_up_to("page"), "minimum": 1},
}  # fmt: skip

# What may go wrong on any route, by status.
TROUBLE: dict[int, tuple[str, str]] = {
    400: ("a parameter is missing or wrong", "Error"),
    401: ("no or an unknown client, or not its token", "Unauthorized"),
    404: ("there is none, or it is another client's", "Error"),
    408: ("the body did not come in time", "Error"),
    409: ("its status, or the attempt, does not allow it", "Error"),
    413: ("the body is too large", "Error"),
    422: ("the Idempotency-Key was used with another body", "Error"),
    429: ("too many requests; Retry-After says when", "Error"),
    503: ("a store cannot be reached; Retry-After says when", "Error"),
}


def _answer(about: str, schema: str, media: str = JSON) -> dict[str, Any]:
    return {
        "description": about,
        "headers": {"X-backbeat-tid": {"schema": TEXT}},
        "content": {media: {"schema": _ref(schema)}},
    }


def _parameters(route: Route) -> list[dict[str, Any]]:
    named = [part[1:-1] for part in route.path.split("/") if part.startswith("{")]
    schemas = {
        "id": UUID,
        "workflow_id": UUID,
        "new": {"type": "string", "enum": list(states.CLIENT_WORDS)},
        "name": FILLED,
    }
    found = [{"name": name, "in": "path", "required": True, "schema": schemas[name]} for name in named]
    found += [{"name": name, "in": "query", "required": False, "schema": QUERIES[name]} for name in route.query]
    if route.keyed:
        key = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[\\x21-\\x7e]+$"}
        found.append({"name": "Idempotency-Key", "in": "header", "required": False, "schema": key})
    return found


def _operation(route: Route, *, strict: bool) -> dict[str, Any]:
    answers = {str(route.status): _answer("done", route.gives, route.media)}
    answers |= {str(status): _answer(about, schema) for status, (about, schema) in TROUBLE.items()}
    if route.auth == "always":
        answers["503"] = _answer("not healthy, or drained", route.gives, route.media)
    operation: dict[str, Any] = {
        "summary": route.about,
        "parameters": _parameters(route),
        "responses": answers,
        "security": _security(route, strict=strict),
    }
    if route.body:
        body = {"schema": _ref(route.body)}
        operation["requestBody"] = {"content": {JSON: body}, "required": "required" in SCHEMAS[route.body]}
    return operation


def _security(route: Route, *, strict: bool) -> list[dict[str, list[str]]]:
    if route.auth == "always" or (route.auth == "open" and not strict):
        return []
    return [{"client": [], "token": []}] if strict or route.auth == "token" else [{"client": []}]


def document(routes: Iterable[Route], *, version: str, strict: bool) -> dict[str, Any]:
    """The whole description. `strict`: whether the token is asked for on every route."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, strict=strict)
    schemes = {
        "client": {"type": "apiKey", "in": "header", "name": "Client-Id"},
        "token": {"type": "apiKey", "in": "header", "name": "Authorization", "description": 'Token token="…"'},
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "Backbeat", "version": version},
        "paths": paths,
        "components": {"schemas": SCHEMAS, "securitySchemes": schemes},
    }
