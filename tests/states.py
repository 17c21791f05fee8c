"""Every inconsistent state, I1 to I30, and the healthy waits, as stored documents: the node in question and its neighbours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from engine import ids
from engine.events import openness
from engine.model import Node
from engine.states import code

CLIENT = "00000000-0000-7000-8000-00000000c11e"
MINUTE = 60_000
HOUR = 60 * MINUTE


@dataclass
class State:
    """`nodes` are all documents, the workflow first; `subject` the node that is in the state, `about` whom it is found on."""

    now: int
    nodes: list[Node] = field(default_factory=list)
    subject: Node = field(default_factory=Node)

    @property
    def root(self) -> Node:
        return self.nodes[0]


class Builder:
    """Makes documents at a time that is long past the grace."""

    def __init__(self, now: int, client: str = CLIENT) -> None:
        self.now, self.then, self.client = now, now - 10 * MINUTE, client
        self.state = State(now)
        self.root = Node(
            kind="workflow",
            name="vat-invoice",
            client=client,
            mode="",
            ss="",
            cs="",
            gen="w",
            subject='{"invoice":4711}',
        )
        self._identify(self.root)
        self.root.wf, self.root.seq, self.root.shash = self.root.id, self.then * 1000, self.root.id
        self.state.nodes.append(self.root)

    def _identify(self, node: Node) -> None:
        node._id = ids.new_id(self.then)
        node.tail, node.rev = ids.tail(node._id), ids.token()
        node.created = node.changed = self.then

    def node(
        self, pair: str, *, under: Node | None = None, history: list[list[Any]] | None = None, **fields: Any
    ) -> Node:
        """`pair` is `server/client`. Its history says how it came there, unless given."""
        parent = under or self.root
        parent.last = (parent.last or parent.seq) + 1
        server, client = pair.split("/")
        node = Node(client=self.client, wf=self.root.id, parent=parent.id, seq=parent.last, ss=server, cs=client)
        node.pgen, node.name = parent.gen, f"step-{len(self.state.nodes)}"
        self._identify(node)
        for name, value in fields.items():
            setattr(node, name, value)
        if "open" not in fields:
            node.open = openness(node)
        node.lines = history if history is not None else [[self.then, "rr"], [self.then, _code(server, client)]]
        self.state.nodes.append(node)
        return node

    def parent(self, **fields: Any) -> Node:
        """A decision that has said its word and waits for its children."""
        return self.node("processing_children/complete", gen="g", name="decision", type="decision", **fields)

    def of(self, subject: Node) -> State:
        self.state.subject = subject
        return self.state


def _code(server: str, client: str) -> str:
    try:
        return code(server, client)
    except KeyError:
        return "??"


Make = Callable[[Builder], Node]


def _i9(b: Builder) -> Node:
    return b.node(
        "sent_to_client/received",
        under=b.parent(),
        pgen="old",
        sent=[1, b.then, 200],
        complete_by=b.now + HOUR,
        due=b.now + HOUR,
    )


def _i10(b: Builder) -> Node:
    parent = b.parent()
    b.node("pending/pending", under=parent, history=[[b.then, "pp"]])
    return parent


def _i11(b: Builder) -> Node:
    parent = b.parent()
    b.node("complete/complete", under=parent)
    return parent


def _i12(b: Builder) -> Node:
    parent = b.parent(links=True)
    b.node("deactivated/errored", link=parent.id)
    return parent


def _i13(b: Builder) -> Node:
    parent = b.parent()
    node = b.node("processing_children/shutdown", under=parent, history=[[b.then, "xe"], [b.then + 1, "kh"]])
    b.node("ready/ready", under=parent)
    return node


def _i17(b: Builder) -> Node:
    parent = b.node("complete/complete", gen="g")
    return b.node("pending/pending", under=parent, history=[[b.then, "pp"]])


def _i18(b: Builder) -> Node:
    parent = b.node("deactivated/complete", gen="new")
    return b.node(
        "started/ready", under=parent, pgen="old", fires_at=b.now + HOUR, due=b.now + HOUR, do={"start": True}
    )


def _i19(b: Builder) -> Node:
    """It waits for a node that holds it back, which waits behind it."""
    first = b.parent(links=True)
    b.node("ready/ready", link=first.id)
    return first


def _i20(b: Builder) -> Node:
    b.root.complete = True
    return _w2(b)


def _i22(b: Builder) -> Node:
    sent = {
        "name": "pay",
        "data": '{"amount":7}',
        "mode": "non_blocking",
        "complete_by": b.now + HOUR,
        "due": b.now + HOUR,
    }
    b.node("sent_to_client/received", **sent, do={"timeout": True})
    return b.node("sent_to_client/received", **sent, do={"timeout": True}, created=b.then + 900)


def _w2(b: Builder, **fields: Any) -> Node:
    wait = {
        "sent": [1, b.then, 200],
        "complete_by": b.now + HOUR,
        "due": b.now + HOUR,
        "do": {"timeout": True},
        **fields,
    }
    return b.node("sent_to_client/received", **wait)


INCONSISTENT: dict[str, Make] = {
    "I1": lambda b: b.node("ready/ready"),
    "I2": lambda b: b.node("started/ready", fires_at=b.now + HOUR),
    "I3": lambda b: b.node("sent_to_client/received", complete_by=b.now + HOUR),
    "I4": lambda b: b.node("sent_to_client/received", complete_by=b.now + HOUR, sent=[1, b.then, 200]),
    "I5": lambda b: b.node("sent_to_client/processing", complete_by=b.now - MINUTE, sent=[1, b.then, 200]),
    "I6": lambda b: _w2(b, complete_by=None),
    "I7": lambda b: b.node("sent_to_client/errored", complete_by=b.now + HOUR),
    "I8": lambda b: b.node("retrying/errored", fires_at=b.now + HOUR, retries=[6, 5]),
    "I9": _i9,
    "I10": _i10,
    "I11": _i11,
    "I12": _i12,
    "I13": _i13,
    "I14": lambda b: b.node("paused/ready"),
    "I15": lambda b: b.node("errored/processing"),
    "I16": lambda b: b.node("errored/processing", history=[[b.then, "ek"], [b.then, "ek", '{"paid":true}', "refused"]]),
    "I17": _i17,
    "I18": _i18,
    "I19": _i19,
    "I20": _i20,
    "I21": lambda b: _w2(b, history=[[b.then, "rr"], [b.then, "sr"]]),
    "I22": _i22,
    "I23": lambda b: b.node(
        "started/ready", parent="00000000-0000-7000-8000-00000000dead", fires_at=b.now + HOUR, due=b.now + HOUR
    ),
    "I24": lambda b: _w2(b, tries=6, by="w1", due=b.now - MINUTE),
    "I25": lambda b: b.node("complete/complete", complete_by=b.now + HOUR),
    "I26": lambda b: _w2(b, retries=[6, 2]),
    "I27": lambda b: b.node("ready/complete"),
    "I28": lambda b: b.node("started/ready", do={"start": True}, fires_at=b.then),
    "I29": lambda b: _w2(b, open="r"),
    "I30": lambda b: b.node("started/ready", do={"start": True}, fires_at=b.then, due=b.then),
}


def _w4(b: Builder) -> Node:
    _w2(b)
    return b.node("ready/ready")


def _w5(b: Builder) -> Node:
    return b.node("pending/pending", under=_w2(b, gen="g", type="decision"), history=[[b.then, "pp"]])


def _w6(b: Builder) -> Node:
    b.root.paused = {"by": "ann@ops1", "at": b.then}
    return b.node("paused/ready")


def _w7(b: Builder) -> Node:
    parent = b.parent()
    wait = {"sent": [1, b.then, 200], "complete_by": b.now + HOUR, "due": b.now + HOUR, "do": {"timeout": True}}
    b.node("sent_to_client/processing", under=parent, **wait)
    return parent


HEALTHY: dict[str, Make] = {
    "W1": lambda b: b.node("started/ready", fires_at=b.now + HOUR, due=b.now + HOUR, do={"start": True}),
    "W2": _w2,
    "W3": lambda b: b.node(
        "retrying/errored", fires_at=b.now + HOUR, due=b.now + HOUR, do={"retry": True}, retries=[6, 5]
    ),
    "W4": _w4,
    "W5": _w5,
    "W6": _w6,
    "W7": _w7,
    "W8": lambda b: b.node(
        "retries_exhausted/errored", retries=[0, 0], history=[[b.then, "xe", '{"error":{"message":"Bank timeout"}}']]
    ),
    "W9": lambda b: b.node("started/ready", do={"start": True}, due=b.now + 5_000, by="w1", since=b.now - 100),
}


def made(id: str, now: int, client: str = CLIENT) -> State:
    """A state by the id of its row."""
    builder = Builder(now, client)
    return builder.of({**INCONSISTENT, **HEALTHY}[id](builder))


def stored(state: State) -> dict[str, Node]:
    """As a look at the store finds them: history in `h`."""
    found = {}
    for node in state.nodes:
        twin = replace(node, h=node.lines, hn=len(node.lines), lines=[])
        found[twin.id] = twin
    return found
