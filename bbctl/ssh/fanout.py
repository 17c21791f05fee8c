"""One function on many hosts: so many at a time, results as they come, one hung host holds nobody.

The threads are daemons and nothing joins them: what must end by itself is the function, every wait in which has a deadline.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import TypeVar

from bbctl.errors import Interrupted
from bbctl.model import Host

R = TypeVar("R")

WIDTH = 32  # one process with more threads is not faster: the work is the hosts'
GRACE = 3.0  # seconds, after Ctrl-C, in which what was cancelled may say how it ended

NOT_LOGGED_IN = frozenset({"unreachable", "auth-failed"})


def exit_over(statuses: Iterable[str]) -> int:
    """The exit code over several hosts: 3 if any host's key was refused; else 4 if none could be logged in to; else 1 if any
    is not `ok`; else 0."""
    seen = set(statuses)
    if "host-key" in seen:
        return 3
    if seen and seen <= NOT_LOGGED_IN:
        return 4
    return 1 if seen - {"ok"} else 0


def fanout(
    hosts: Iterable[Host],
    fn: Callable[[Host], R],
    *,
    width: int = WIDTH,
    deadline: float | None = None,
    report: Callable[[str, R], None] | None = None,
    cancel: threading.Event | None = None,
) -> dict[str, R]:
    """`fn(host)` for every host, at most `width` at once; the results by name, in the order of the hosts.

    `report(name, result)` is called here, in the caller's thread, as results come. After `deadline` seconds in all no host is
    begun, and one that has not answered is missing from the result. What `fn` raises is raised here at once: it handles
    itself what it expects of a host. Ctrl-C (or Interrupted) sets `cancel`, begins no host, reports what ends within GRACE and
    goes on up; a second one at once.
    """
    wanted = list({host.name: host for host in hosts}.values())
    todo = deque(wanted)
    done: queue.SimpleQueue[tuple[str, R | None, BaseException | None]] = queue.SimpleQueue()
    found: dict[str, R] = {}
    end = None if deadline is None else time.monotonic() + deadline
    try:
        for number in range(min(width, len(wanted))):
            threading.Thread(target=_work, args=(todo, fn, done), daemon=True, name=f"fanout-{number}").start()
        _collect(len(wanted), done, found, report, end)
    except (KeyboardInterrupt, Interrupted):
        begun = len(wanted) - _drop(todo)
        if cancel:
            cancel.set()
        _collect(begun, done, found, report, time.monotonic() + GRACE)
        raise
    finally:
        todo.clear()
    return {host.name: found[host.name] for host in wanted if host.name in found}


def _work(
    todo: deque[Host], fn: Callable[[Host], R], done: queue.SimpleQueue[tuple[str, R | None, BaseException | None]]
) -> None:
    while True:
        try:
            host = todo.popleft()
        except IndexError:
            return
        try:
            done.put((host.name, fn(host), None))
        except BaseException as error:  # handed over whole: it is raised where somebody waits
            done.put((host.name, None, error))


def _drop(todo: deque[Host]) -> int:
    """Take everything that nobody has begun; how many that were."""
    count = 0
    while True:
        try:
            todo.popleft()
        except IndexError:
            return count
        count += 1


def _collect(
    count: int,
    done: queue.SimpleQueue[tuple[str, R | None, BaseException | None]],
    found: dict[str, R],
    report: Callable[[str, R], None] | None,
    end: float | None,
) -> None:
    """Take results until `count` are found, or until `end`."""
    while len(found) < count:
        try:
            name, result, error = done.get(timeout=None if end is None else max(0.0, end - time.monotonic()))
        except queue.Empty:
            return
        if error is not None:
            raise error
        found[name] = result  # type: ignore[assignment]
        if report:
            report(name, found[name])
