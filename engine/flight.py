"""What a worker does in threads: POSTs to clients, slow Python handlers, notifications. Bounded; results go to the loop.

Threads never write to the store: they return what came of it, and the loop, which reads `rev` first, decides.
"""

from __future__ import annotations

import json
import queue
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from engine import clients, events, present, states, task
from engine.client import Answer
from engine.events import Context
from engine.failpoint import failpoint
from engine.model import ClientRecord, Node
from engine.registry import Handler
from engine.runtime import Runtime
from engine.task import Outcome

REST = 0.030
"""Seconds."""
FAILED = [states.SERVER_LETTER[status] for status in ("retrying", "retries_exhausted", "errored")]


@dataclass(frozen=True)
class Landed:
    """`rev` is the node's as it was sent off, and `since` when it was claimed: a result of another claim counts no more."""

    id: str
    rev: str
    since: int | None
    attempt: int
    what: str
    result: Answer | Outcome
    at: float = field(default_factory=time.monotonic)

    @property
    def ok(self) -> bool:
        return self.result.ok if isinstance(self.result, Answer) else self.result.error is None


class Flights:
    def __init__(self, rt: Runtime) -> None:
        self._rt = rt
        self._most = rt.settings.post_threads
        self._pool = ThreadPoolExecutor(max_workers=self._most, thread_name_prefix="flight")
        self._results: queue.SimpleQueue[Landed] = queue.SimpleQueue()
        self._under_way = 0
        self._resting: list[Landed] = []
        self._until: dict[object, float] = {}

    @property
    def stuck(self) -> bool:
        """Is every thread with a handler that should be done by now? Nothing ends such a thread but its process."""
        now = time.monotonic()
        return not self.room and sum(until < now for until in list(self._until.values())) >= self._most

    @property
    def room(self) -> int:
        return self._most - self._under_way

    @property
    def any(self) -> bool:
        return self._under_way > 0 or bool(self._resting)

    def landed(self, wait: float) -> list[Landed]:
        """What came back. A post that was taken rests first: most clients call us within `REST`, and then its answer needs
        no write."""
        came = self._came(wait)
        if self._resting and not came and not self._under_way:
            time.sleep(wait)
        self._resting += [one for one in came if one.what == "post" and one.ok]
        rested = time.monotonic() - REST
        found = [one for one in came if one.what != "post" or not one.ok]
        found += [one for one in self._resting if one.at <= rested]
        self._resting = [one for one in self._resting if one.at > rested]
        return found

    def _came(self, wait: float) -> list[Landed]:
        found: list[Landed] = []
        while self._under_way:
            try:
                found.append(self._results.get(timeout=wait) if wait and not found else self._results.get_nowait())
            except queue.Empty:
                break
            self._under_way -= 1
        return found

    def again(self, landed: list[Landed]) -> None:
        """Puts results back that could not be dealt with yet."""
        for one in landed:
            self._under_way += 1
            self._results.put(one)

    def addressed(self, one: Landed) -> Landed:
        if isinstance(one.result, Answer):
            return one
        return replace(one, result=clients.addressed(self._rt, one.result))

    def launch(self, node: Node, root: Node, what: str) -> bool:
        """Sends it off; False if this process has no way to."""
        work = self._notify(node, root) if what == "notify" else self._deliver(node, root)
        if work is None:
            return False
        self._under_way += 1
        kind = "call" if what == "post" and node.type != "flag" and self._is_local(node) else what
        self._pool.submit(self._fly, node, kind, work)
        return True

    def _fly(self, node: Node, what: str, work: Callable[[], Answer | Outcome]) -> None:
        try:
            failpoint("post.before")
            result = work()
            failpoint("post.after")
        except Exception as error:
            result = Answer(None, f"{type(error).__name__}: {error}")
            if what == "call":
                result = Outcome(error=events.text({"error": task.described(error)}))
        self._results.put(Landed(node._id, node.rev, node.since, node.attempt, what, result))

    def deadline(self, node: Node) -> float | None:
        """When a handler that begins now must be done with the node (monotonic); None for what is posted to a client."""
        handler = self._rt.handlers.get(node.name)
        return None if handler is None or not self._is_local(node) else time.monotonic() + handler.timeout

    def _is_local(self, node: Node) -> bool:
        client = self._rt.client(node.client)
        return client is not None and client.local

    def _deliver(self, node: Node, root: Node) -> Callable[[], Answer | Outcome] | None:
        client = self._rt.client(node.client)
        if client is None:
            return lambda: Answer(None, "its client is gone")
        if client.local:
            handler = self._rt.handlers.get(node.name)
            return None if handler is None else lambda: self._call(handler, node, root)
        kind, url = _endpoint(node, client)
        body = present.post(node, root, kind=kind)
        return lambda: self._post(client, url, node, body)

    def _call(self, handler: Handler, node: Node, root: Node) -> Outcome:
        began, key = time.monotonic(), object()
        self._until[key] = began + handler.timeout
        outcome = task.call(handler, node, root)
        del self._until[key]
        self._rt.handlers.took(handler, time.monotonic() - began)
        return outcome

    def _notify(self, node: Node, root: Node) -> Callable[[], Answer | Outcome] | None:
        client = self._rt.client(node.client)
        arg = (node.do or {})["notify"]
        error = _last_error(self._rt, node)
        if client is None:
            return lambda: Answer(200)
        if client.local:
            handler = self._rt.handlers.get(node.name)
            if handler is None:
                return None
            return lambda: task.rescue(handler, node, root, error)
        url = client.notification_endpoint
        if not url:
            return lambda: Answer(200)
        body = present.notification(node, root, message=arg["message"], error=error)
        return lambda: self._post(client, url, node, body)

    def _post(self, client: ClientRecord, url: str, node: Node, body: object) -> Answer:
        headers = {
            "Content-Type": "application/json",
            "Accept": "application/json",
            "User-Agent": "backbeat",
            "Idempotency-Key": f"{node._id}:{node.attempt}",  # of each endpoint: a notification bears its attempt's too
            "X-Backbeat-Attempt": str(node.attempt),
        }
        text = json.dumps(body, separators=(",", ":")).encode()
        return self._rt.poster.post(url, text, headers, timeout=self._rt.post_timeout(client))

    def conclude_post(self, after: Node, one: Landed, ctx: Context) -> None:
        """The event of a POST's answer."""
        answer = one.result
        assert isinstance(answer, Answer)
        if answer.ok and answer.status is not None:
            events.posted(after, ctx, answer.status)
            return
        client = self._rt.client(after.client)
        kind, url = _endpoint(after, client) if client is not None else ("activity", "its client")
        if answer.status is not None:
            message = f"HTTP request for {kind} failed"
        else:
            message = f"Could not POST {url}, error: {answer.error}"
        events.post_failed(after, ctx, answer.status, message)

    def conclude_late(self, one: Landed, after: Node, ctx: Context) -> bool:
        """The same where the client has called us meanwhile: it has the node, so an answer that never came means nothing.

        False: there is nothing to change.
        """
        answered = after.sent is not None and after.sent[0] == after.attempt
        if after.ss != "sent_to_client" or after.attempt != one.attempt or answered or "post" in (after.do or {}):
            return False
        assert isinstance(one.result, Answer)
        if one.result.late:
            return False
        self.conclude_post(after, one, ctx)
        return True

    def conclude_told(self, one: Landed, after: Node, ctx: Context) -> bool:
        """Its client was notified, and has called us meanwhile. False: there is nothing to change."""
        if after.attempt != one.attempt or "notify" not in (after.do or {}):
            return False
        events.done(after, "notify")
        return True

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


def _endpoint(node: Node, client: ClientRecord) -> tuple[str, str]:
    if node.type == "decision" and client.decision_endpoint:
        return "decision", client.decision_endpoint
    return "activity", client.activity_endpoint or ""


def _last_error(rt: Runtime, node: Node) -> object:
    """The `error` of what its client said when it failed the last time; a response that is no object, whole; else None."""
    full = rt.store.by_ids([node._id], history=True).get(node._id)
    for line in reversed((full.h if full else None) or []):
        failed = line[1][0] in FAILED and len(line) < 4  # a fourth word: a `completed` that was refused
        if failed:
            response = json.loads(line[2]) if len(line) > 2 and line[2] is not None else None
            return response.get("error") if isinstance(response, dict) else response
    return None
