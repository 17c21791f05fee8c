"""Both status machines and the named moves between pairs, as data.

A node has a *server status* (where it stands in our hands) and a *client status* (what its client said). A status
changes by a move of the table MOVES only; a move tests the client machine first, as Backbeat does.
"""

from __future__ import annotations

from engine.errors import InvalidTransition

SERVER: dict[str, tuple[str, ...]] = {
    "pending": ("ready", "deactivated", "errored"),
    "ready": ("started", "deactivated", "errored"),
    "started": ("sent_to_client", "paused", "deactivated", "errored"),
    "sent_to_client": ("processing_children", "retrying", "retries_exhausted", "deactivated", "errored"),
    "processing_children": ("complete", "deactivated", "errored"),
    "complete": ("deactivated",),
    "paused": ("started", "deactivated", "errored"),
    "errored": ("ready", "deactivated", "errored"),
    "retrying": ("ready", "deactivated", "errored"),
    "retries_exhausted": ("ready", "deactivated", "errored", "processing_children"),
    "deactivated": ("deactivated",),
}
CLIENT: dict[str, tuple[str, ...]] = {
    "pending": ("ready", "errored"),
    "ready": ("received", "errored"),
    "received": ("processing", "complete", "errored"),
    "processing": ("complete", "errored"),
    "errored": ("ready", "errored", "resolved", "shutdown"),
    "complete": ("complete",),
    "resolved": (),
    "shutdown": (),
}

MOVES: dict[str, tuple[str | None, str | None]] = {
    # name: (client status or None for "stays", server status or None)
    "ready": ("ready", "ready"),
    "start": (None, "started"),
    "park": (None, "paused"),
    "send": ("received", "sent_to_client"),
    "process": ("processing", None),
    "complete": ("complete", "processing_children"),
    "resolve": ("resolved", "processing_children"),
    "shutdown": ("shutdown", "processing_children"),
    "finish": (None, "complete"),
    "retry": ("errored", "retrying"),
    "exhaust": ("errored", "retries_exhausted"),
    "fail": (None, "errored"),
    "deactivate": (None, "deactivated"),
    "again": ("ready", "ready"),
}
ANYWAY = {"again": "errored"}
"""Moves past the client machine, from this server status only: an operator's retry of what we ourselves gave up."""

DONE = ("complete", "deactivated")
"""Server statuses in which a node holds nobody back."""
WAITING = ("pending", "ready")
FINAL_CLIENT = ("complete", "resolved", "shutdown")

# History lines hold a pair as two letters; "." means "as before".
SERVER_LETTER: dict[str, str] = {
    "pending": "p",
    "ready": "r",
    "started": "s",
    "sent_to_client": "c",
    "processing_children": "k",
    "complete": "f",
    "paused": "z",
    "errored": "e",
    "retrying": "t",
    "retries_exhausted": "x",
    "deactivated": "d",
}
CLIENT_LETTER: dict[str, str] = {
    "pending": "p",
    "ready": "r",
    "received": "c",
    "processing": "k",
    "complete": "f",
    "errored": "e",
    "resolved": "v",
    "shutdown": "h",
}
SERVER_WORD = {letter: word for word, letter in SERVER_LETTER.items()}
CLIENT_WORD = {letter: word for word, letter in CLIENT_LETTER.items()}

LEGAL_PAIRS: dict[str, tuple[str, ...]] = {
    "pending": ("pending",),
    "ready": ("ready",),
    "started": ("ready",),
    "paused": ("ready",),
    "sent_to_client": ("received", "processing", "errored"),
    "processing_children": FINAL_CLIENT,
    "complete": FINAL_CLIENT,
    "retrying": ("errored",),
    "retries_exhausted": ("errored",),
    "errored": tuple(CLIENT),
    "deactivated": tuple(CLIENT),
}

CLIENT_WORDS: dict[str, str] = {
    # what a client may say (PUT …/status/WORD) and the event it means
    "deciding": "processing",
    "processing": "processing",
    "completed": "completed",
    "deciding_complete": "completed",
    "errored": "errored",
    "resolved": "resolved",
    "shutdown": "shutdown",
    "deactivated": "deactivated",
    "canceled": "canceled",
}
STATUS_OF: dict[str, str] = {
    # that event and the status it is after
    "processing": "processing",
    "completed": "complete",
    "errored": "errored",
    "resolved": "resolved",
    "shutdown": "shutdown",
    "deactivated": "deactivated",
    "canceled": "deactivated",
}


def moved(server: str, client: str, move: str) -> tuple[str, str]:
    """The pair after `move`; InvalidTransition, client machine first, where a table does not allow it."""
    to_client, to_server = MOVES[move]
    if to_client is not None and to_client not in CLIENT[client] and ANYWAY.get(move) != server:
        raise InvalidTransition("client", client, to_client)
    if to_server is not None and to_server not in SERVER[server]:
        raise InvalidTransition("server", server, to_server)
    return to_server or server, to_client or client


def code(server: str, client: str) -> str:
    return SERVER_LETTER[server] + CLIENT_LETTER[client]
