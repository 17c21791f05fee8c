"""B1-B4 on our engine (two workers, journalled), on RQ (two SimpleWorkers), on Dramatiq (2 x 8), on Restate.

RQ and Dramatiq keep their jobs in a Redis with an append-only file, fsync every second, and no state of workflows.
The join of B2: RQ's users count by hand; Dramatiq has groups with completion callbacks, and a second row counts by hand
there too. Restate (`run` steps, two processes of hypercorn, synced to disk) gathers; restate_node.py says how it is asked.

    python -m bench.engine [--only b1] [--small] [--alone]

Of ours alone: B1 with a client over HTTP (`http`), and 10,000 signals on one workflow (`signals`).

Figures of one run compare with each other only: everything shares one machine. Prints activities a second and ratios.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import redis

from bench.engine.restate_node import Restate, Unavailable, installed, restate
from engine import workflows
from engine.model import NewNode, NewWorkflow
from engine.runtime import Runtime, open_runtime
from engine.settings import Settings
from tests.integration.api_server import engine
from tests.integration.servers import Mongo, Redis, free_port, wait_for
from tests.integration.worker_kit import crew

WORKERS = 2
BATCH = 50
WATCHED = 16
STEP = NewNode(name="step")
BY_HAND = "b2, the join counted by hand"
Figures = dict[str, float]


def rate(activities: int, began: float) -> float:
    return activities / (time.monotonic() - began)


# -- ours ----------------------------------------------------------------------------------------------------------


class Ours:
    name = "bbctl"

    def __init__(self, rt: Runtime, stamps: Path, client: str | None = None) -> None:
        self.rt = rt
        self.stamps = stamps
        self.client = client or workflows.add_client(rt, "bench")[0].id
        self.made = 0

    def start(self, name: str, count: int, *params: object) -> list[str]:
        new = []
        for _ in range(count):
            self.made += 1
            data = {"params": list(params)}
            new.append(NewWorkflow(name="bench", subject=self.made, signal=NewNode(name=name, data=data)))
        roots: list[str] = []
        for first in range(0, count, BATCH):
            roots += [signal.id for _, signal in workflows.start_many(self.rt, self.client, new[first : first + BATCH])]
        return roots

    def until_done(self, signals: list[str]) -> None:
        """Looks at few at a time: a peer is asked for one number, so a watcher must cost little here too."""
        left = list(signals)

        def done() -> bool:
            while left:
                last = left[-WATCHED:]
                if self.rt.store.ids_where({"_id": {"$in": last}, "ss": {"$ne": "complete"}}, 1):
                    return False
                del left[-WATCHED:]
            return True

        wait_for("the work", done, 300, every=0.02)

    def sequence(self, count: int, length: int) -> float:
        began = time.monotonic()
        self.until_done(self.start("chain", count, length))
        return rate(count * length, began)

    def one_by_one(self, count: int, length: int, callers: int) -> float:
        began = time.monotonic()
        signals: list[str] = []

        def call(share: int) -> None:
            for _ in range(share):
                signals.extend(self.start("chain", 1, length))

        threads = [threading.Thread(target=call, args=(count // callers,)) for _ in range(callers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.until_done(signals)
        return rate(len(signals) * length, began)

    def fan(self, count: int, width: int) -> float:
        began = time.monotonic()
        self.until_done(self.start("fan", count, width))
        return rate(count * width, began)

    def signals(self, count: int, callers: int) -> tuple[float, float]:
        """Seconds per 1,000 signals on one workflow, the first 1,000 and the last; each done before the next 1,000."""
        workflow = workflows.create_workflow(self.rt, self.client, name="bench", subject="signals").id
        took = []
        with ThreadPoolExecutor(callers) as pool:
            for _ in range(count // 1000):
                began = time.monotonic()
                made = pool.map(lambda _: workflows.signal(self.rt, self.client, workflow, STEP).id, range(1000))
                self.until_done(list(made))
                took.append(time.monotonic() - began)
        return took[0], took[-1]

    def latency(self, count: int) -> list[float]:
        self.stamps.write_text("")
        for _ in range(count):
            self.start("stamp", 1, time.monotonic())
            time.sleep(0.01)
        lines = wait_for("the stamps", lambda: len(found := self.stamps.read_text().split()) == count and found)
        return [float(line) for line in lines]


@contextmanager
def ours(folder: Path, mongo: Mongo, server: Redis) -> Iterator[Ours]:
    settings = Settings(mongo_url=mongo.url("bench"), redis_url=server.url())
    stamps = folder / "stamps"
    rt = open_runtime(settings)
    with crew(settings, WORKERS, ["bench.engine.works"], folder, BENCH_STAMPS=str(stamps)) as team:
        wait_for("the workers", lambda: len(workflows.workers(rt)) == WORKERS)
        yield Ours(rt, stamps)
        print("memory of a worker, MB:", ", ".join(f"{resident(pid):.0f}" for pid in team.workers()))
    rt.close()


def over_http(mongo: Mongo, server: Redis, count: int, length: int) -> float:
    """B1 where every activity is a POST of ours and a call of a client's; API, client and two workers are processes."""
    with engine(mongo.url("http"), server.url(2), workers=WORKERS) as api:
        port = free_port()
        client, token = api.add_client("bench", f"http://127.0.0.1:{port}")
        words = ["bench.engine.http_client", str(port), str(api.port), client, token, str(length)]
        (process,) = children(1, [sys.executable, "-m", *words], {})
        rt = open_runtime(Settings(mongo_url=mongo.url("http"), redis_url=server.url(2)))
        try:
            us = Ours(rt, Path("/dev/null"), client)
            wait_for("the workers", lambda: len(workflows.workers(rt)) == WORKERS)
            wait_for("the client", lambda: socket.create_connection(("127.0.0.1", port)).close() or True)
            us.until_done(us.start("chain", 10))
            began = time.monotonic()
            us.until_done(us.start("chain", count))
            return rate(count * length, began)
        finally:
            process.kill()
            process.wait()
            rt.close()


def resident(pid: int) -> float:
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


ROOT = Path(__file__).resolve().parents[2]


def peers_python(venv: Path) -> str:
    """Of an environment with the peers that bbctl itself does not need, made when missing."""
    python = venv / "bin/python"
    if not (venv / "bin/dramatiq").exists():
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
        needed = ROOT / "bench/requirements-engine.txt"
        subprocess.run([str(python), "-m", "pip", "install", "-q", "-r", str(needed)], check=True)
    return str(python)


# -- peers ---------------------------------------------------------------------------------------------------------


class Peer:
    """Works are submitted by `submit(work, count, size)`; the last job of each counts `done` up."""

    def __init__(self, name: str, url: str, submit: Callable[[str, int, int], None]) -> None:
        self.name = name
        self.redis = redis.Redis.from_url(url)
        self.submit = submit

    def _run(self, work: str, count: int, size: int) -> float:
        self.redis.delete("done")
        began = time.monotonic()
        self.submit(work, count, size)
        wait_for("the work", lambda: int(str(self.redis.get("done") or b"0", "ascii")) >= count, 300, every=0.02)
        return rate(count * size, began)

    def sequence(self, count: int, length: int) -> float:
        return self._run("chain", count, length)

    def fan(self, count: int, width: int, work: str = "fan") -> float:
        self.redis.delete(*[f"fan:{place}" for place in range(count)])
        return self._run(work, count, width)

    def latency(self, count: int) -> list[float]:
        self.redis.delete("stamps")
        self.submit("stamp", count, 0)
        wait_for("the stamps", lambda: self.redis.llen("stamps") == count)
        return [float(item) for item in self.redis.lrange("stamps", 0, -1)]  # type: ignore[union-attr]


def children(count: int, argv: list[str], environment: dict[str, str]) -> list[subprocess.Popen[bytes]]:
    quiet = subprocess.DEVNULL
    return [subprocess.Popen(argv, env={**os.environ, **environment}, stdout=quiet, stderr=quiet) for _ in range(count)]


@contextmanager
def rq(url: str) -> Iterator[Peer]:
    os.environ["BENCH_REDIS"] = url
    from bench.engine import peer_rq

    argv = [sys.executable, "-m", "rq.cli", "worker", "-w", "rq.SimpleWorker", "--quiet", "-u", url, "bench"]
    workers = children(WORKERS, argv, {"BENCH_REDIS": url, "PYTHONPATH": os.getcwd()})

    def submit(work: str, count: int, size: int) -> None:
        for place in range(count):
            if work == "stamp":
                peer_rq.enqueue(peer_rq.stamp, time.monotonic())
                time.sleep(0.01)
            elif work == "fan":
                peer_rq.enqueue(peer_rq.fan, size, str(place))
            else:
                peer_rq.enqueue(peer_rq.chain, size)

    time.sleep(2)
    try:
        yield Peer("rq", url, submit)
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


@contextmanager
def dramatiq(url: str, python: str) -> Iterator[Peer]:
    environment = {"BENCH_REDIS": url, "PYTHONPATH": os.getcwd()}
    argv = [python, "-m", "dramatiq", "-p", "2", "-t", "8", "bench.engine.peer_dramatiq"]
    (worker,) = children(1, argv, environment)
    submitter = subprocess.Popen(
        [python, "-m", "bench.engine.peer_dramatiq"],
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    )

    def submit(work: str, count: int, size: int) -> None:
        assert submitter.stdin is not None
        assert submitter.stdout is not None
        submitter.stdin.write(f"{work} {count} {size}\n")
        if not submitter.stdout.readline():
            raise RuntimeError("the submitting process is gone")

    time.sleep(3)
    try:
        yield Peer("dramatiq", url, submit)
    finally:
        for process in (submitter, worker):
            process.terminate()
            process.wait()


# -- the run -------------------------------------------------------------------------------------------------------


def measured(peer: Ours | Peer | Restate, only: str, part: float) -> Figures:
    found: Figures = {}
    peer.sequence(20, 5)  # warm
    if only in ("", "b1"):
        found["b1 500 x 5"] = peer.sequence(int(500 * part), 5)
        if isinstance(peer, Ours | Restate):
            found["b1 one by one, 16 callers"] = peer.one_by_one(int(500 * part) // 16 * 16, 5, 16)
    if only in ("", "b2"):
        found["b2 50 x 50 + join"] = peer.fan(int(50 * part), 50)
        if peer.name == "dramatiq":
            found[BY_HAND] = peer.fan(int(50 * part), 50, "counted_fan")  # type: ignore[call-arg]
    if only in ("", "b3"):
        found["b3 chain of 1,000"] = peer.sequence(1, int(1000 * part))
        if isinstance(peer, Ours | Restate):
            found["b3 chain of 4,000"] = peer.sequence(1, int(4000 * part))
    if only in ("", "b4"):
        waits = sorted(peer.latency(int(200 * part)))
        found["b4 p50 ms"] = statistics.median(waits) * 1000
        found["b4 p99 ms"] = waits[int(len(waits) * 0.99)] * 1000
    if only in ("", "signals") and isinstance(peer, Ours):
        first, last = peer.signals(int(10_000 * part), 4)
        found["signals: first 1,000, s"], found["signals: last 1,000, s"] = first, last
    return found


def beside_restate(folder: Path, venv: Path, only: str, part: float) -> Figures:
    """Nothing, and a line that says why, where the node is not to be had."""
    try:
        binary, python = installed(venv)
    except Unavailable as missing:
        print(f"restate: not measured: {missing}")
        return {}
    with restate(folder, binary, python, WORKERS) as peer:
        return measured(peer, only, part)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--venv", type=Path, default=ROOT / "build/bench-engine", help="where Dramatiq and Restate are installed"
    )
    parser.add_argument("--only", default="", help="b1, b2, b3, b4, http or signals")
    parser.add_argument("--small", action="store_true", help="a fifth of the work")
    parser.add_argument("--alone", action="store_true", help="without peers")
    options = parser.parse_args()
    part = 0.2 if options.small else 1.0
    python = None if options.alone else peers_python(options.venv)
    results: dict[str, Figures] = {}
    with tempfile.TemporaryDirectory(prefix="bbctl-bench-") as folder:
        mongo, server, other = Mongo.start(), Redis.start(), Redis.start()
        try:
            with redis.Redis.from_url(other.url()) as client:
                client.config_set("appendonly", "yes")
            with ours(Path(folder), mongo, server) as us:
                results["bbctl"] = measured(us, options.only, part)
            if options.only in ("", "http"):
                results["bbctl"]["b1 500 x 5 over HTTP"] = over_http(mongo, server, int(500 * part), 5)
            if python is not None:
                with rq(other.url()) as peer:
                    results["rq"] = measured(peer, options.only, part)
                with dramatiq(other.url(1), python) as peer:
                    results["dramatiq"] = measured(peer, options.only, part)
                results["restate"] = beside_restate(Path(folder), options.venv, options.only, part)
        finally:
            for each in (mongo, server, other):
                each.stop()
    show(results)


def show(results: dict[str, Figures]) -> None:
    print(
        f"{'':28}" + "".join(f"{name:>12}" for name in results) + "".join(f"{'÷ ' + n:>12}" for n in list(results)[1:])
    )
    ours = dict(results["bbctl"])
    if BY_HAND in results.get("dramatiq", {}):
        ours[BY_HAND] = ours["b2 50 x 50 + join"]
    for key, value in ours.items():
        row = [value, *(results[name].get(key) for name in list(results)[1:])]
        shown = "".join(f"{'–' if one is None else format(one, ',.1f'):>12}" for one in row)
        ratios = "".join(f"{'–' if one is None else format(value / one, '.2f'):>12}" for one in row[1:])
        print(f"{key:28}{shown}{ratios}")


if __name__ == "__main__":
    main()
