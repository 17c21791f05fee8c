"""Links: a node of one workflow that holds back the completion of another node. Made here, where no circle may come of it."""

from __future__ import annotations

from engine import door
from engine.errors import BadRequest, Conflict
from engine.events import Context
from engine.ids import is_id
from engine.model import NewNode, Node
from engine.runtime import Runtime
from engine.states import DONE


def mark(rt: Runtime, new: NewNode, above: Node) -> None:
    """Marks the node that `new` holds back, so that it cannot complete unseen. Refused where both would wait for ever."""
    if new.link is None:
        return
    if not is_id(new.link):
        raise BadRequest("parent_link_id", f"{new.link} is no id")

    def check(target: Node | None) -> Node:
        if target is None or target.is_workflow:
            raise BadRequest("parent_link_id", f"there is no activity {new.link}")
        if target.ss in DONE:
            raise Conflict(f"Activity {target.id} is {target.ss}: nothing can hold it back", current=target.ss)
        return target

    target = check(rt.store.node(new.link))
    if _would_wait(rt, target, above):
        raise BadRequest("parent_link_id", f"{target.id} and the new node would wait for each other")

    def event(node: Node, ctx: Context) -> None:
        node.links = True

    door.act(rt, target.id, event, check=check)


def _would_wait(rt: Runtime, target: Node, above: Node) -> bool:
    """Would the new child of `above` have to wait for `target`, which then waits for it? Seen within one workflow."""
    if target.wf != above.wf:
        return False
    upwards = [node.id for node in _path(rt, above)]
    below: Node | None = None
    for node in _path(rt, target):
        if node.id in upwards:
            return below is not None and _blocks(rt, below, upwards, node.id)
        below = node
    return False


def _blocks(rt: Runtime, earlier: Node, upwards: list[str], fork: str) -> bool:
    if earlier.mode != "blocking" or earlier.ss in DONE:
        return False
    place = upwards.index(fork)
    if place == 0:
        return True  # the new one is made now, so it comes after every sibling
    later = rt.store.node(upwards[place - 1])
    return later is not None and later.seq > earlier.seq


def _path(rt: Runtime, node: Node) -> list[Node]:
    """The node, its parent, and so on up to the workflow."""
    path = [node]
    while path[-1].parent is not None:
        above = rt.store.node(path[-1].parent)
        if above is None:
            break
        path.append(above)
    return path
