"""`bbctl client …`: who may ask the engine, who is asked by it, and their tokens."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from bbctl.cli.audited import act
from bbctl.cli.engine import client_for, runtime
from bbctl.cli.front import Call, seconds
from bbctl.errors import UsageError
from bbctl.render import plain, screen
from bbctl.settings import masked
from engine import workflows
from engine.clients import change_client
from engine.model import ClientRecord

Name = Annotated[str, typer.Argument(metavar="NAME", help="The client's name, or its id.")]


def add(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="How people call it.")],
    activity_endpoint: Annotated[str | None, typer.Option(metavar="URL", help="Where activities are posted.")] = None,
    notification_endpoint: Annotated[str | None, typer.Option(metavar="URL", help="Where failures are told.")] = None,
    decision_endpoint: Annotated[
        str | None, typer.Option(metavar="URL", help="Where signals are posted; without: the activity endpoint.")
    ] = None,
    timeout: Annotated[str | None, typer.Option(metavar="D", help="How long one post may take (default 30s).")] = None,
) -> None:
    """Add a client and print its token, which is shown this once. Endpoints are allowed as given, link-local never.
    Without endpoints its handlers are Python functions of the workers (bbctl work --import MODULE).

    \b
    Examples:
      bbctl client add accounting --activity-endpoint http://accounting.snc1/activity --notification-endpoint http://accounting.snc1/notification
      bbctl client add reports -o json
    """
    call: Call = ctx.obj
    if bool(activity_endpoint) != bool(notification_endpoint) or (decision_endpoint and not activity_endpoint):
        raise UsageError(
            "an HTTP client needs both --activity-endpoint and --notification-endpoint", next="bbctl client add --help"
        )
    limit = seconds(timeout, "--timeout") if timeout else None
    with act(call, targets={"client": name}, reason=""), runtime(call) as rt:
        client, token = workflows.add_client(
            rt,
            name,
            activity_endpoint=activity_endpoint,
            notification_endpoint=notification_endpoint,
            decision_endpoint=decision_endpoint,
            timeout=limit,
        )
    _show_token(call, client, token)


def list_clients(ctx: typer.Context) -> None:
    """The clients, by name; never their tokens.

    \b
    Examples:
      bbctl client list
      bbctl client list -o json
    """
    call: Call = ctx.obj
    with runtime(call) as rt:
        rows = [_row(client) for client in workflows.list_clients(rt)]
    call.show(rows, lambda: _table(rows))


def edit(
    ctx: typer.Context,
    name: Name,
    activity_endpoint: Annotated[str | None, typer.Option(metavar="URL", help="Where activities are posted.")] = None,
    notification_endpoint: Annotated[str | None, typer.Option(metavar="URL", help="Where failures are told.")] = None,
    decision_endpoint: Annotated[
        str | None, typer.Option(metavar="URL|none", help="Where signals are posted; none: the activity endpoint.")
    ] = None,
    timeout: Annotated[str | None, typer.Option(metavar="D", help="How long one post may take.")] = None,
) -> None:
    """Give a client other endpoints, or another deadline: it has moved. Its id, its token and its workflows stay; what is
    sent from now on goes there (elsewhere: within about a second).

    \b
    Examples:
      bbctl client edit accounting --activity-endpoint http://accounting2.snc1/activity
      bbctl client edit accounting --decision-endpoint none
      bbctl client edit accounting --timeout 2m
    """
    call: Call = ctx.obj
    taken = ["decision_endpoint"] if decision_endpoint == "none" else []
    wanted: dict[str, str | float | None] = {
        "activity_endpoint": activity_endpoint,
        "notification_endpoint": notification_endpoint,
        "decision_endpoint": None if taken else decision_endpoint,
        "timeout": seconds(timeout, "--timeout") if timeout else None,
    }
    given = {field: value for field, value in wanted.items() if value is not None or field in taken}
    if not given:
        raise UsageError("nothing is given that could be changed", next="bbctl client edit --help")
    with act(call, targets={"client": name}, reason=""), runtime(call) as rt:
        client = change_client(rt, client_for(rt, name).id, **given)
    call.show(_row(client), lambda: _table([_row(client)]))


def rotate(ctx: typer.Context, name: Name) -> None:
    """Give a client a new token and print it; the old one is refused within about a second.

    \b
    Examples:
      bbctl client rotate accounting
    """
    call: Call = ctx.obj
    with act(call, targets={"client": name}, reason=""), runtime(call) as rt:
        client, token = workflows.rotate_token(rt, client_for(rt, name).id)
    _show_token(call, client, token)


def remove(ctx: typer.Context, name: Name) -> None:
    """Remove a client. Refused while it has unfinished work.

    \b
    Examples:
      bbctl client remove reports
    """
    call: Call = ctx.obj
    with act(call, targets={"client": name}, reason=""), runtime(call) as rt:
        client = client_for(rt, name)
        workflows.remove_client(rt, client.id)
    call.show({"id": client.id, "name": client.name, "removed": True}, lambda: f"{screen.safe(client.name)} is removed")


def _show_token(call: Call, client: ClientRecord, token: str) -> None:
    value = {"id": client.id, "name": client.name, "authToken": token}
    call.show(value, lambda: f"name   {screen.safe(client.name)}\nid     {client.id}\ntoken  {token}")
    if call.output == "table":
        call.say("keep the token: it is not shown again (bbctl client rotate makes a new one)")


def _row(client: ClientRecord) -> dict[str, Any]:
    return {
        "id": client.id,
        "name": client.name,
        "activityEndpoint": _shown(client.activity_endpoint),
        "notificationEndpoint": _shown(client.notification_endpoint),
        "decisionEndpoint": _shown(client.decision_endpoint),
        "timeout": client.timeout,
        "createdAt": plain.stamp(client.created / 1000),
    }


def _shown(url: str | None) -> str | None:
    return masked(url) if url else None


def _table(rows: list[dict[str, Any]]) -> str | None:
    if not rows:
        return "no clients; bbctl client add NAME"
    table = screen.table("name", "id", "activities", "decisions", "notifications")
    for row in rows:
        endpoints = (
            row["activityEndpoint"] or "in Python",
            row["decisionEndpoint"] or "",
            row["notificationEndpoint"] or "",
        )
        table.add_row(screen.safe(row["name"]), row["id"], *map(screen.safe, endpoints))
    screen.draw(table)
    return None
