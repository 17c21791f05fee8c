"""The route table: every path of the HTTP API with its method, who may ask, what it takes and gives.

It drives routing (`find`) and the description at /openapi.json alike, so the two cannot differ. The paths are those of
the original Backbeat; each is there under /v2 too, where activities are called events, and below its workflow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from engine import calls
from engine.calls import Ask

# open: anybody · client: a known Client-Id · token: that client's token as well · always: open even when strict
Auth = Literal["always", "open", "client", "token"]

SEARCH = ("current_status", "past_status", "status_start", "status_end", "per_page", "page", "last_id")


@dataclass(frozen=True)
class Route:
    method: str
    path: str  # `{id}` stands for one segment
    call: Callable[[Ask], Any]
    about: str
    gives: str  # the schema of a success
    status: int = 200
    auth: Auth = "client"
    query: tuple[str, ...] = ()
    body: str | None = None
    keyed: bool = False  # takes an Idempotency-Key
    media: str = "application/json"
    here: bool = False  # answered in the event loop, so it never touches a store: threads may all wait for one


def _workflows() -> Iterator[Route]:
    one = "/workflows/{id}"
    yield Route(
        "POST",
        "/workflows",
        calls.create_workflow,
        "Create a workflow, or give the one that is there",
        "Workflow",
        201,
        body="NewWorkflow",
        keyed=True,
    )
    yield Route(
        "GET",
        "/workflows",
        calls.find_workflow,
        "Find a workflow by its subject",
        "Workflow",
        query=("subject", "decider", "name", "workflow_type"),
    )
    yield Route("GET", "/workflows/names", calls.names, "Names of your workflows, sorted", "Names")
    yield Route(
        "GET",
        "/workflows/search",
        calls.search_workflows,
        "Search workflows, newest first",
        "Workflows",
        query=("name", "subject", *SEARCH),
    )
    yield Route("GET", one, calls.get_workflow, "One workflow", "Workflow")
    yield Route("GET", one + "/children", calls.children, "Its signals", "Nodes")
    yield Route(
        "GET",
        one + "/nodes",
        calls.nodes,
        "All its nodes",
        "Nodes",
        query=("current_server_status", "current_client_status"),
    )
    yield Route("GET", one + "/tree", calls.tree, "The workflow and its nodes as a tree", "Tree")
    yield Route("GET", one + "/tree/print", calls.print_tree, "The tree as coloured text", "Print")
    for path in ("/signal", "/signal/{name}"):
        yield Route(
            "POST", one + path, calls.signal, "Send it a signal", "Node", 201, auth="token", body="Signal", keyed=True
        )
    for verb in ("complete", "pause", "resume"):
        yield Route("PUT", f"{one}/{verb}", calls.VERBS[verb], f"{verb.capitalize()} it", "Success")


def _activities(base: str) -> Iterator[Route]:
    one = base + "/{id}"
    if "{" not in base:
        yield Route(
            "GET",
            base + "/search",
            calls.search_activities,
            "Search your activities, newest first",
            "Nodes",
            query=("name", "metadata", *SEARCH),
        )
    narrow = () if "{" in base else ("workflow_id",)
    yield Route("GET", one, calls.get_activity, "One activity", "Node", query=narrow)
    yield Route("GET", one + "/errors", calls.errors, "Its changes to errored", "Statuses", query=narrow)
    yield Route("GET", one + "/response", calls.response, "What its client last answered", "Any", query=narrow)
    yield Route("GET", one + "/status_changes", calls.status_changes, "All its changes", "Statuses", query=narrow)
    yield Route(
        "PUT",
        one + "/status/{new}",
        calls.change_status,
        "Report what became of it",
        "Success",
        query=narrow,
        body="Response",
    )
    yield Route("PUT", one + "/schedule", calls.schedule, "Look at its children again", "Any", query=narrow)
    yield Route("PUT", one + "/restart", calls.restart, "Run it again, now", "Success", query=narrow)
    yield Route("PUT", one + "/reset", calls.reset, "Deactivate what is below it", "Success", query=narrow)
    yield Route(
        "POST",
        one + "/decisions",
        calls.decisions,
        "Give it children, all or none",
        "Ids",
        201,
        auth="token",
        query=narrow,
        body="Decisions",
        keyed=True,
    )


def _rest() -> Iterator[Route]:
    for prefix in ("", "/v2"):
        yield Route("GET", prefix + "/users", calls.users, "The clients, by name", "Users", auth="open")
        yield Route("GET", prefix + "/users/{id}", calls.user, "One client", "User", auth="open")
    yield Route("GET", "/health", calls.health, "200 while MongoDB takes majority writes", "Health", auth="always")
    yield Route(
        "GET",
        "/heartbeat.txt",
        calls.heartbeat,
        "200 while this process takes work",
        "Text",
        auth="always",
        media="text/plain; charset=utf-8",
        here=True,
    )
    yield Route("GET", "/sidekiq_stats", calls.sidekiq_stats, "Depth and latency of the queue", "Stats", auth="open")
    yield Route(
        "GET",
        "/metrics",
        calls.metrics,
        "The same for Prometheus",
        "Text",
        auth="open",
        media="text/plain; version=0.0.4; charset=utf-8",
    )
    yield Route("GET", "/openapi.json", calls.openapi, "This description", "Object", auth="open", here=True)
    yield Route(
        "GET", "/v2/debug/error_workflows", calls.error_workflows, "Workflows with an errored node", "RawWorkflows"
    )


def _all() -> Iterator[Route]:
    for prefix in ("", "/v2"):
        for route in _workflows():
            yield replace(route, path=prefix + route.path)
        for base in ("/activities", "/events") if prefix else ("/activities",):
            yield from _activities(prefix + base)
        for base in ("activities", "events"):
            yield from _activities(f"{prefix}/workflows/{{workflow_id}}/{base}")
    yield from _rest()


ROUTES: tuple[Route, ...] = tuple(_all())


@dataclass(frozen=True)
class Found:
    """What a path leads to: its routes by method, and the segments that stood for names."""

    methods: Mapping[str, Route]
    names: Mapping[str, str]


class _Place:
    """One segment's node of the routing tree. A name of its own wins over `{…}`."""

    __slots__ = ("below", "methods", "named")

    def __init__(self) -> None:
        self.below: dict[str, _Place] = {}
        self.named: _Place | None = None
        self.methods: dict[str, Route] = {}


def _plant(routes: tuple[Route, ...]) -> _Place:
    top = _Place()
    for route in routes:
        place = top
        for segment in route.path.strip("/").split("/"):
            if segment.startswith("{"):
                place.named = place.named or _Place()
                place = place.named
            else:
                place = place.below.setdefault(segment, _Place())
        place.methods[route.method] = route
    return top


_TOP = _plant(ROUTES)


def find(segments: list[str]) -> Found | None:
    """The routes of a path given as its decoded segments; None where there is nothing."""
    place, values = _TOP, []
    for segment in segments:
        step = place.below.get(segment)
        if step is None:
            step = place.named
            values.append(segment)
        if step is None:
            return None
        place = step
    if not place.methods:
        return None
    path = next(iter(place.methods.values())).path
    names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    return Found(place.methods, dict(zip(names, values, strict=True)))
