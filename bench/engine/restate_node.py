"""Restate as a peer: one node on loopback, its handlers (`peer_restate`) in two processes of hypercorn, a lean ingress client.

The node has its defaults: 24 partitions, everything kept a day, its log synced to disk before an answer; telemetry and
web pages are off. Chains are sent as ours are started: an answer says that one is kept, nobody waits for its end, and
handlers count the ends in a file. A batch is sent all at once, each by a connection that stands before the clock starts:
of what was tried (16 to 500 callers that send or wait for the end) the fastest for Restate. One by one means 16 callers,
each with one call at a time. B2 calls and waits for all ends. B4 sends, and its one step stamps.

The node asks GitHub for its newest version at every start and has no setting against that: it gets a file of hosts of
its own, by a namespace of mounts, in which that name is loopback.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bench.engine.http_client import Pair, message
from tests.integration.servers import free_port, wait_for
from tests.integration.worker_kit import children_of

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
NODE = """
node-name = "bench"
base-dir = "{folder}"
listen-mode = "tcp"
bind-ip = "127.0.0.1"
bind-port = {fabric}
disable-telemetry = true
log-disable-ansi-codes = true
[ingress]
bind-address = "127.0.0.1:{ingress}"
[admin]
bind-address = "127.0.0.1:{admin}"
disable-web-ui = true
"""
HANDLERS = """
bind = "127.0.0.1:{handlers}"
workers = {workers}
h2_max_concurrent_streams = 2147483647
keep_alive_max_requests = 2147483647
keep_alive_timeout = 2147483647
"""
"""As Restate's own pages advise; hypercorn's defaults end a connection after 1,000 requests."""


ALONE = ["unshare", "--map-root-user", "--mount", "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"']
"""Before a file of hosts and a command, which then is the same process."""


class Unavailable(Exception):
    """What is missing for this peer, in words that follow "not measured: "."""


def installed(venv: Path) -> tuple[Path, Path]:
    """The node's binary, by npm below `venv`, and the Python with the SDK; made when missing. Unavailable says what failed."""
    place, needed = venv / "restate", ROOT / "bench/requirements-restate.txt"
    python = venv / "bin/python"
    if not (venv / "bin/hypercorn").exists():
        _must([str(python), "-m", "pip", "install", "-q", "-r", str(needed)])
    wanted = {place / name: (HERE / name).read_bytes() for name in ("package.json", "package-lock.json")}
    if not (_binary(place) and all(file.read_bytes() == want for file, want in wanted.items())):
        place.mkdir(exist_ok=True)
        for file, want in wanted.items():
            file.write_bytes(want)
        _must(["npm", "ci", "--prefix", str(place), "--ignore-scripts", "--no-audit", "--no-fund"])
    binary = _binary(place)
    if binary is None:
        raise Unavailable("npm brought no Restate server for this platform that is what package-lock.json says")
    _must([*ALONE, "/etc/hosts", "true"])
    return binary, python


def _binary(place: Path) -> Path | None:
    return next(place.glob("node_modules/@restatedev/restate-server-*/bin/restate-server"), None)


def _must(argv: list[str]) -> None:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=600, check=False)
    except FileNotFoundError:
        raise Unavailable(f"no {argv[0]} here") from None
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{Path(argv[0]).name} took longer than 10 min") from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no reason given"]
        said = next((line for line in lines if "error" in line.lower()), lines[-1])
        raise Unavailable(f"{Path(argv[0]).name} ended with {done.returncode}: {said}")


class Restate:
    name = "restate"

    def __init__(self, ingress: int, place: Path) -> None:
        self.ingress = ingress
        self.stamps, self.ends = place / "stamps", place / "ends"

    def sequence(self, count: int, length: int) -> float:
        return self.one_by_one(count, length, count)

    def one_by_one(self, count: int, length: int, callers: int) -> float:
        self.ends.write_text("")
        took = asyncio.run(self._calls("chain/send", length, count, callers))
        began = time.monotonic()
        wait_for("the work", lambda: self.ends.stat().st_size >= count, 300, every=0.02)
        return count * length / (took + time.monotonic() - began)

    def fan(self, count: int, width: int) -> float:
        return count * width / asyncio.run(self._calls("fan", width, count, count))

    def latency(self, count: int) -> list[float]:
        self.stamps.write_text("")
        asyncio.run(self._stamped(count))
        lines = wait_for("the stamps", lambda: len(found := self.stamps.read_text().split()) == count and found)
        return [float(line) for line in lines]

    async def _calls(self, handler: str, size: int, count: int, callers: int) -> float:
        """Seconds from the first of `count` calls to the last answer; a caller waits for an answer before its next call."""
        pairs = [await asyncio.open_connection("127.0.0.1", self.ingress) for _ in range(callers)]
        left = iter(range(count))

        async def caller(pair: Pair) -> None:
            for _ in left:
                await post(pair, f"/bench/{handler}", size)

        began = time.monotonic()
        await asyncio.gather(*(caller(pair) for pair in pairs))
        took = time.monotonic() - began
        for _, writer in pairs:
            writer.close()
        return took

    async def _stamped(self, count: int) -> None:
        pair = await asyncio.open_connection("127.0.0.1", self.ingress)
        for _ in range(count):
            await post(pair, "/bench/stamp/send", time.monotonic())
            await asyncio.sleep(0.01)
        pair[1].close()


async def post(pair: Pair, path: str, told: object) -> None:
    """One call with a body in JSON. RuntimeError on an answer that is not 2xx."""
    text = json.dumps(told)
    head = f"POST {path} HTTP/1.1\r\nHost: restate\r\nContent-Type: application/json\r\nContent-Length: {len(text)}"
    pair[1].write(f"{head}\r\n\r\n{text}".encode())
    answer, body = await message(pair[0])
    if not answer.startswith(b"HTTP/1.1 2"):
        raise RuntimeError(f"{path}: {answer.splitlines()[0]!r} {body[:200]!r}")


async def register(admin: int, handlers: int) -> bool:
    """Tells the node where the handlers are. OSError while either is not up."""
    pair = await asyncio.open_connection("127.0.0.1", admin)
    try:
        await post(pair, "/deployments", {"uri": f"http://127.0.0.1:{handlers}"})
    except (RuntimeError, asyncio.IncompleteReadError) as error:
        raise OSError(str(error)) from None
    finally:
        pair[1].close()
    return True


@contextmanager
def restate(folder: Path, binary: Path, python: Path, workers: int) -> Iterator[Restate]:
    """The node and its handlers, below `folder`; both end with the block. AssertionError where they do not come up."""
    place = folder / "restate"
    place.mkdir()
    ports = {name: free_port() for name in ("ingress", "admin", "fabric", "handlers")}
    (place / "node.toml").write_text(NODE.format(folder=place / "data", **ports))
    (place / "hosts").write_text("127.0.0.1 localhost api.github.com\n")
    (place / "hypercorn.toml").write_text(HANDLERS.format(workers=workers, **ports))
    works = {"BENCH_STAMPS": str(place / "stamps"), "BENCH_ENDS": str(place / "ends"), "PYTHONPATH": str(ROOT)}
    node = ["--config-file", str(place / "node.toml"), "--no-logo"]
    served = ["-m", "hypercorn", "--config", str(place / "hypercorn.toml"), "bench.engine.peer_restate:app"]
    with (
        _running([str(python), *served], place / "hypercorn.log", **works),
        _running([*ALONE, str(place / "hosts"), str(binary), *node], place / "node.log"),
    ):
        wait_for("Restate", lambda: asyncio.run(register(ports["admin"], ports["handlers"])), 60)
        yield Restate(ports["ingress"], place)


@contextmanager
def _running(argv: list[str], log: Path, **environment: str) -> Iterator[None]:
    """A process with an environment of its own: none of the user's RESTATE_* or proxies reaches it."""
    with log.open("wb") as said:
        own = {"PATH": os.environ["PATH"], **environment}
        process = subprocess.Popen(argv, env=own, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
    try:
        yield
    finally:
        children = children_of(process.pid)
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            for child in children:
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
