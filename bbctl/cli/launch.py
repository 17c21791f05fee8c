"""`bbctl workflow start` and `signal`: what gives the engine work. Neither asks; both may be said twice."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bbctl.cli.engine import as_text, client_for, find, remember, runtime
from bbctl.cli.front import Call
from bbctl.cli.workflow import Id
from bbctl.errors import Failed, UsageError
from bbctl.render.screen import safe

if TYPE_CHECKING:
    from engine.model import NewNode, Node
    from engine.runtime import Runtime

Data = Annotated[str | None, typer.Option("--data", metavar="JSON", help="What its client is handed, as client_data.")]


def start(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the workflow.")],
    subject: Annotated[
        str, typer.Option("--subject", metavar="JSON", help="What it is about; tells it from its like.")
    ],
    decider: Annotated[
        str | None, typer.Option("--decider", metavar="NAME", help="Who decides, for its client.")
    ] = None,
    client: Annotated[
        str | None, typer.Option("--client", metavar="NAME", help="Whose it is; default: the only client.")
    ] = None,
    signal: Annotated[str | None, typer.Option("--signal", metavar="NAME", help="Send it this signal.")] = None,
    data: Data = None,
) -> None:
    """Create a workflow, and signal it. The same line twice is one workflow and one signal.

    \b
    Examples:
      bbctl wf start vat-invoice --subject '{"invoice": 4711}' --signal new --data '{"amount": 12}'
      bbctl wf start report --subject '"2026-11"' --client accounting
    """
    from engine import present, workflows
    from engine.params import snake_keys

    call: Call = ctx.obj
    about = snake_keys(read_json("--subject", subject))  # as the HTTP API keeps them
    for what, words in (("NAME", name), ("--decider", decider), ("--signal", signal)):
        as_text(what, words)
    if data is not None and signal is None:
        raise UsageError("--data goes with --signal NAME", next="bbctl wf start --help")
    new = _signal(signal, data) if signal is not None else None
    with runtime(call) as rt:
        owner = client_for(rt, client)
        root = workflows.create_workflow(rt, owner.id, name=name, subject=about, decider=decider)
        sent = None
        if new is not None:
            key = "start:" + hashlib.sha256(json.dumps([new.name, new.data], sort_keys=True).encode()).hexdigest()
            sent = _sent(rt, root, new, key)
        value = present.workflow(root) | ({"signal": present.node(sent, root)} if sent else {})
    remember(call, [root])
    said = f" · signal {safe(sent.name)} {sent.tail}" if sent else ""
    of = f"{safe(root.name)} {root.tail} {safe(root.subject or '')} · {safe(owner.name)}"
    call.show(
        value,
        lambda: f"{of}{said}\nnext     bbctl wf show {root.tail} -w",
    )


def signal(
    ctx: typer.Context,
    id: Id,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the signal.")],
    data: Data = None,
    key: Annotated[str | None, typer.Option("--key", metavar="K", help="The same key twice is one signal.")] = None,
) -> None:
    """Send a workflow a signal.

    \b
    Examples:
      bbctl wf signal invoice=4711 paid
      bbctl wf signal 8c1f03a2 paid --data '{"amount": 12}' --key bank-20261124-17
    """
    from engine import present

    call: Call = ctx.obj
    new = _signal(name, data)
    for what, words in (("NAME", name), ("--key", key)):
        as_text(what, words)
    with runtime(call) as rt:
        root = rt.store.by_ids([wf := find(rt, id).wf])[wf]
        sent = _sent(rt, root, new, key)
        value = present.node(sent, root)
    told = f"signal {safe(sent.name)} {sent.tail} · {safe(root.name)} {root.tail}"
    call.show(value, lambda: f"{told}\nnext     bbctl wf show {root.tail} -w")


def _sent(rt: Runtime, root: Node, new: NewNode, key: str | None) -> Node:
    """The signal, sent for the workflow's own client. Failed: the workflow takes none."""
    from engine import workflows
    from engine.errors import WorkflowComplete

    try:
        return workflows.signal(rt, root.client, root.id, new, key=key)
    except WorkflowComplete as error:
        message = f"{root.name} {root.tail} is declared complete: it takes no more signals"
        raise Failed(message, code=error.code, next=f"bbctl wf show {root.tail}") from None


def _signal(name: str, data: str | None) -> NewNode:
    from engine.model import NewNode

    return NewNode(name=name, type="decision", data={} if data is None else read_json("--data", data))


def read_json(option: str, text: str) -> Any:
    """A JSON value as the HTTP API takes it: what that refuses is refused here too, as UsageError."""
    from engine import params
    from engine.errors import BadRequest

    try:
        return params.read_json(text.encode(errors="surrogateescape"), option)
    except BadRequest as error:
        raise UsageError(error.message, next=f"""{option} '{{"invoice": 4711}}' (or '"text"' for a text)""") from None
