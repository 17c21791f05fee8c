"""One worker process: RQ's loop around the drain where Redis answers, a plain loop around the same where it does not.

Started by the supervisor as `python -m engine.worker`, with its settings as JSON on stdin, so that no password is in a
command line; ends by SIGTERM after what is under way, at once when its supervisor is gone. The one RQ job only says
*drain*: its arguments are ignored and nothing else can be run, so whoever writes to Redis can wake us and no more.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, ClassVar

import redis
from rq import Queue, SimpleWorker
from rq.job import Job
from rq.timeouts import BaseDeathPenalty

from engine import heal, loading, periodic
from engine.drain import Drain
from engine.errors import BadRequest, EngineError
from engine.figures import day_of
from engine.hints import connect
from engine.ids import token
from engine.model import WorkerRecord
from engine.runtime import Runtime, open_runtime
from engine.settings import Settings

log = logging.getLogger("engine.worker")

DRAIN = "drain"
LEASE = 60.0
"""Seconds one drain job lasts; RQ does its own housekeeping between two."""
RQ_TIMEOUT = 1.0
"""Seconds RQ may wait for one answer of Redis."""
PLAIN = 2.0
"""Seconds of the plain loop before Redis is asked again."""
HUNG = 75
"""Exit code of a worker that a handler holds up for good."""
BEAT = 2.0
PERIODIC = 2.0
"""Seconds between two looks at the periodic jobs."""
SWEEP = 2.0
"""Seconds a sweep lasts at most; the next goes on from there."""


class NoPenalty(BaseDeathPenalty):
    """A drain ends by itself: an alarm in the middle of a commit would help nobody."""

    def setup_death_penalty(self) -> None:
        return None

    def cancel_death_penalty(self) -> None:
        return None


class DrainJob(Job):
    """The only job there is. What a job found in Redis carries is neither unpacked nor imported nor called."""

    drain: ClassVar[Callable[[], None]]
    payload: ClassVar[bytes] = json.dumps([DRAIN, None, [], {}]).encode()

    @property
    def func(self) -> Callable[..., None]:
        run = type(self).drain
        return lambda *args, **kwargs: run()

    success_callback = failure_callback = stopped_callback = property(lambda self: None)

    def restore(self, raw_data: dict[bytes, bytes]) -> None:
        """Only what RQ itself counts by; never the payload, the callbacks or the webhooks of a stranger."""
        kept = (b"created_at", b"origin", b"enqueued_at", b"started_at", b"status")
        clean = {key: value for key, value in raw_data.items() if key in kept}
        super().restore({**clean, b"data": self.payload, b"timeout": b"-1", b"result_ttl": b"0", b"failure_ttl": b"1"})
        self.webhooks = []


class RedisLost(Exception):
    """Not an error of Redis's library: at those RQ's loop would try again for ever, while nobody works."""


class DrainWorker(SimpleWorker):
    """RQ's worker without its signal handlers (ours are set), without its alarm, and deaf to RQ's commands: nobody who
    writes to Redis may end us, and a thread that listens would outlive the loss of Redis, one more each time."""

    death_penalty_class = NoPenalty
    job_class = DrainJob

    def _install_signal_handlers(self) -> None:
        return None

    def subscribe(self) -> None:
        return None

    def _set_connection(self, connection: redis.Redis) -> redis.Redis:
        """As it is: RQ would have a frozen Redis hold us up for seven minutes a command."""
        return connection

    def heartbeat(self, *args: Any, **more: Any) -> None:
        try:
            super().heartbeat(*args, **more)
        except redis.RedisError as error:
            raise RedisLost(str(error)) from None


def _end(why: str) -> None:
    """A handler that never returns cannot be stopped, only its process. What that holds is owed: whoever claims it goes on."""
    log.error("%s: this worker ends, another runs what it held", why)
    logging.shutdown()
    os._exit(HUNG)


class Loop:
    """What one worker process does until it is told to stop."""

    def __init__(self, rt: Runtime, supervisor: int, version: str) -> None:
        self._rt = rt
        self._supervisor = supervisor
        self.id = f"{socket.gethostname()}-{os.getpid()}-{token()[:6]}"
        self.drain = Drain(rt, self.id)
        self.drain.leases.hung = _end
        self._version = version
        self._started: int | None = None
        self._beat_at = 0.0
        self._sweep_at = time.monotonic() + rt.settings.sweep_period
        self._swept = ""
        self._periodic_at = 0.0
        self._periodic = threading.Lock()
        self._counted = (0, 0)
        self.stop = False

    # -- draining --------------------------------------------------------------------------------------------------

    def drain_for(self, seconds: float, while_: Callable[[], bool] = lambda: True) -> None:
        """Rounds, one after the other, for a while. Trouble with the store is waited out."""
        limit = time.monotonic() + seconds
        pause = 0.1
        while not self.stop and time.monotonic() < limit and while_():
            if self._supervisor and os.getppid() != self._supervisor:
                log.warning("the supervisor is gone: leaving")
                self.stop = True
                return
            try:
                self._housekeeping()
                self.drain.round(1.0)
                pause = 0.1
            except EngineError as error:
                log.warning("%s; again in %.1f s", error.message, pause)
                self.drain.hand.distrust()
                time.sleep(pause)
                pause = min(pause * 2, 2.0)

    def _housekeeping(self) -> None:
        now = time.monotonic()
        if now - self._beat_at >= BEAT:
            self._beat_at = now
            self._beat()
        if now >= self._sweep_at:
            self._sweep_at = now + self._rt.settings.sweep_period
            threading.Thread(target=self._sweep, name="sweep", daemon=True).start()
        if now >= self._periodic_at:
            self._periodic_at = now + PERIODIC
            threading.Thread(target=self._periodic_jobs, name="periodic", daemon=True).start()

    def _periodic_jobs(self) -> None:
        if not self._periodic.acquire(blocking=False):
            return  # a long one is still under way
        try:
            periodic.run_due(self._rt, self.id)
        except EngineError as error:
            log.warning("periodic jobs: %s", error.message)
        finally:
            self._periodic.release()

    def _sweep(self) -> None:
        """Walks some of the unfinished nodes for what a bug, an import or an edit has left: the drain needs none of it."""
        limit = time.monotonic() + SWEEP
        try:
            while time.monotonic() < limit:
                self._swept, healed = heal.heal_slice(self._rt, self._swept)
                if healed:
                    log.warning("the sweep has repaired %d nodes", healed)
                if not self._swept:
                    return
        except EngineError as error:
            log.warning("sweep: %s", error.message)

    def _beat(self) -> None:
        at = self._rt.store.now()
        self._started = self._started or at
        drain = self.drain
        record = WorkerRecord(
            id=self.id,
            host=socket.gethostname(),
            pid=os.getpid(),
            started=self._started,
            seen=at,
            version=self._version,
            processed=drain.commits.processed,
            failed=drain.commits.failed,
            held=len(drain.held),
            redis=self._rt.hints.ok,
            handlers=sorted(self._rt.handlers.handlers),
        )
        self._rt.store.beat(record)
        processed, failed = self._counted
        done = drain.commits
        if (done.processed, done.failed) != self._counted:
            self._rt.store.count_up(day_of(at), done.processed - processed, done.failed - failed)
            self._counted = (done.processed, done.failed)

    # -- inside RQ and outside -------------------------------------------------------------------------------------

    def run(self) -> None:
        """Until `stop`."""
        url = self._rt.settings.redis_url
        while not self.stop:
            if url is None or not self._rt.hints.ping() or not self._in_rq(url):
                self.drain_for(PLAIN)
        self.leave()

    def _in_rq(self, url: str) -> bool:
        """One drain job of our own through RQ; whether it ran."""
        ran = False

        def drain() -> None:
            nonlocal ran
            ran = True
            try:
                self.drain_for(LEASE, while_=lambda: self._rt.hints.ok)
            except Exception:
                log.exception("a defect in the drain")

        job_class = type("DrainJobHere", (DrainJob,), {"drain": staticmethod(drain)})
        connection = connect(url, RQ_TIMEOUT)
        try:
            name = f"{self._rt.settings.prefix}-{self.id}"
            queue = Queue(
                name, connection=connection, job_class=job_class, serializer="json", death_penalty_class=NoPenalty
            )
            mine = f"{name}-{token()[:6]}"  # where Redis was lost for a while the name of before still stands there
            worker = DrainWorker([queue], name=mine, connection=connection, job_class=job_class, serializer="json")
            worker.log_job_description = False
            queue.enqueue(DRAIN, job_timeout=-1, result_ttl=0, failure_ttl=1, description=DRAIN)
            worker.work(burst=True, max_jobs=1, logging_level="CRITICAL")
            queue.delete()
        except (redis.RedisError, OSError, ValueError) as error:
            log.warning("Redis is lost: %s; work goes on without it", error)
        finally:
            connection.close()
        return ran

    def leave(self) -> None:
        with suppress(EngineError):
            self.drain.leave(self._rt.settings.grace)
            self._beat()
            self._rt.store.forget_worker(self.id)
        self._rt.close()


def main() -> None:
    told: dict[str, Any] = json.load(sys.stdin)
    if os.getppid() != told["supervisor"]:
        return
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s worker %(process)d %(message)s")
    logging.getLogger("engine").setLevel(told.get("log", "INFO"))
    logging.getLogger("rq").setLevel(logging.CRITICAL)  # a lost Redis is told by us, in a line
    try:
        loading.load(told["modules"])
    except BadRequest as error:  # it was loaded before: somebody is changing it
        log.error("%s", error.message)
        sys.exit(loading.UNLOADABLE)
    loop = Loop(open_runtime(Settings(**told["settings"])), told["supervisor"], told["version"])

    def stop(number: int, frame: object) -> None:
        loop.stop = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group: the supervisor says when
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    loop.run()
    logging.shutdown()
    os._exit(0)  # threads that still wait for a slow client must not hold us up: their posts are owed


if __name__ == "__main__":
    main()
