"""One workflow engine with one worker in a thread of this process, and a client over HTTP."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from engine import workflows
from engine.drain import Drain
from engine.registry import Registry
from engine.runtime import Runtime, open_runtime
from engine.settings import Settings
from tests.integration.engine_kit import Post, Stub, act, stub_client
from tests.integration.servers import wait_for


@dataclass
class House:
    rt: Runtime
    me: str
    stub: Stub
    drain: Drain

    def workflow(self) -> str:
        return workflows.create_workflow(self.rt, self.me, name="house", subject=time.time_ns()).id

    def signal(self, workflow: str, name: str = "signal", **more: object) -> str:
        id = workflows.signal(self.rt, self.me, workflow, act(name, **more)).id
        self.sent(id)
        return id

    def sent(self, id: str, attempt: int = 1) -> None:
        wait_for("the post", lambda: f"{id}:{attempt}" in self.stub.sent_keys, every=0.01)

    def says(self, id: str, word: str, **more: object) -> None:
        workflows.change_status(self.rt, self.me, id, word, **more)  # type: ignore[arg-type]

    def reaches(self, id: str, server: str, client: str) -> None:
        def there() -> bool:
            node = workflows.get_node(self.rt, None, id).node
            return (node.ss, node.cs) == (server, client)

        wait_for(f"{server}/{client}", there, every=0.01)


Build = Callable[..., House]


@contextmanager
def houses(mongo_url: str, handlers: Registry) -> Iterator[Build]:
    """A function that makes houses, of a client that answers as it is told; all are torn down at the end."""
    closing: list[Callable[[], object]] = []

    def made(answer: Callable[[Post], int] = lambda post: 200, **more: object) -> House:
        settings = Settings(mongo_url=mongo_url, **{"lease": 1.0, "period": 0.05, **more})  # type: ignore[arg-type]
        rt = open_runtime(settings, handlers=handlers)
        context = stub_client(answer)
        stub = context.__enter__()
        me = workflows.add_client(
            rt, "me", activity_endpoint=stub.url, notification_endpoint=stub.url + "/notification"
        )[0].id
        drain = Drain(rt, "worker")
        stop = threading.Event()

        def work() -> None:
            while not stop.is_set():
                drain.round(0.02)
            drain.leave(1.0)

        thread = threading.Thread(target=work)
        thread.start()
        closing.extend([stop.set, thread.join, lambda: context.__exit__(None, None, None), rt.close])
        return House(rt, me, stub, drain)

    yield made
    for close in closing:
        close()
