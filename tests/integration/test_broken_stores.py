"""A store that is down, full, too old, or will not have us: every command says in a line which store and why.

No traceback, no secret, and the exit code of the contract. What serves goes on serving: its VIP must not lose it for that.
"""

from __future__ import annotations

import datetime
import http.client
import ipaddress
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pymongo
import pytest
import redis
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from engine import workflows
from engine.errors import StoreDown
from engine.model import NewNode, NewWorkflow
from engine.runtime import Runtime, open_runtime
from engine.settings import Settings
from tests.integration.old_mongod import old_mongod
from tests.integration.servers import Mongo, Process, Redis, free_port, mongod_binary, tidy_environment, wait_for

SECRET = "canary-8c1f"
INVENTORY = "site: snc1\ngroups: {g: {hosts: w1}}\nhosts: {w1: {address: 127.0.0.1, port: 1}}\n"
ASKING = {
    "wf list": ["workflow", "list"],
    "stores status": ["stores", "status"],
    "doctor": ["doctor"],
    "diagnose": ["diagnose"],
}
ALL = ("serve", "work", *ASKING)
SOME = ("serve", "wf list", "stores status")
"""Of the commands that say the same because they ask the same function, one each."""
ENDED = {"work": 4, "wf list": 4, "stores status": 4, "doctor": 1, "diagnose": 1}
Fault = Callable[[Mongo, Path], AbstractContextManager[tuple[str, str, str]]]
"""Makes a MongoDB that is to be broken: its URL, its place, and what must be said of it."""


@dataclass
class Told:
    """`code` is None for what went on until it was told to end."""

    code: int | None
    text: str

    def line(self, *words: str) -> str:
        """The only line that holds all these words."""
        (found,) = [line for line in self.text.splitlines() if all(word in line for word in words)]
        return found


@dataclass
class Desk:
    """A machine from which commands are typed."""

    home: Path
    environ: dict[str, str] = field(default_factory=dict)

    def start(self, *words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "bbctl", *words]
        return subprocess.Popen(
            command, env=self.environ, cwd=self.home, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def ask(self, *words: str) -> Told:
        child = self.start(*words)
        text = child.communicate(timeout=60)[0]
        return Told(child.returncode, text)

    def ask_all(self, names: Sequence[str] = ALL, work_ends: bool = True) -> dict[str, Told]:
        """These commands at once; `serve`, and a `work` that does not end, until their line is out."""
        port = free_port()
        runs_on = {"serve": ["serve", "--port", str(port)], "work": ["work", "--processes", "1"]}
        children = {name: self.start(*{**ASKING, **runs_on}[name]) for name in names}
        told = {}
        try:
            told["serve"] = self._until_warned(children["serve"], lambda: self._serves(port))
            if not work_ends:
                told["work"] = self._until_warned(children["work"], lambda: None)
            for name in [name for name in children if name not in told]:
                text = children[name].communicate(timeout=60)[0]
                told[name] = Told(children[name].returncode, text)
        finally:
            for child in children.values():
                child.kill()
                child.wait()
                if child.stdout is not None:
                    child.stdout.close()
        for name, one in told.items():
            assert "Traceback" not in one.text, name
            assert "defect" not in one.text, name
            assert SECRET not in one.text, name
        return told

    @staticmethod
    def _until_warned(child: subprocess.Popen[str], look: Callable[[], None]) -> Told:
        assert child.stdout is not None
        with child.stdout:
            said = ""
            for line in child.stdout:
                said += line
                if "warning: " in said and ("workers; " in said or "serving " in said):
                    break
            look()
            child.send_signal(signal.SIGTERM)
            said += child.stdout.read()
        return Told(None if child.wait(30) == 0 else child.returncode, said)

    @staticmethod
    def _serves(port: int) -> None:
        """The VIP's question is answered as ever."""
        link = http.client.HTTPConnection("127.0.0.1", port, timeout=15)
        try:
            link.request("GET", "/heartbeat.txt")
            assert link.getresponse().status == 200
        finally:
            link.close()


@pytest.fixture
def desk(tmp_path: Path, redis_server: Redis) -> Desk:
    home = tmp_path / "desk"
    home.mkdir()
    (home / "inventory.yml").write_text(INVENTORY)
    environ = {**tidy_environment(), "BBCTL_HOME": str(home / "state"), "BBCTL_INVENTORY": str(home / "inventory.yml")}
    return Desk(home, {**environ, "BBCTL_REDIS_URL": redis_server.url()})


def prove(told: dict[str, Told], place: str, cause: str) -> None:
    """MongoDB is not to be had: each says so, and ends as promised."""
    for name, one in told.items():
        assert one.code == ENDED.get(name), f"{name}: {one.text}"
        assert one.line(cause), name
        assert place in one.text or name == "doctor", name
        if name in ("serve", "work", "wf list"):
            assert one.line("MongoDB", place, cause)
        elif name == "doctor":
            assert "bbctl stores status" in one.text


# -- what can be wrong with MongoDB ----------------------------------------------------------------------------------


@contextmanager
def stopped(mongo: Mongo, folder: Path) -> Iterator[tuple[str, str, str]]:
    place = f"127.0.0.1:{free_port()}"
    yield f"mongodb://ann:{SECRET}@{place}/x?replicaSet=rs0", place, "Connection refused"


@contextmanager
def wrong_password(mongo: Mongo, folder: Path) -> Iterator[tuple[str, str, str]]:
    url = mongo.url("x").replace(mongo.password, SECRET)
    yield url, f"127.0.0.1:{mongo.ports[0]}", "refuses our credentials (Authentication failed)"


@contextmanager
def alone(mongo: Mongo, folder: Path) -> Iterator[tuple[str, str, str]]:
    port, data = free_port(), folder / "alone"
    data.mkdir()
    words = ["--bind_ip", "127.0.0.1", "--port", str(port), "--dbpath", str(data), "--unixSocketPrefix", str(data)]
    server = Process([mongod_binary(), *words, "--wiredTigerCacheSizeGB", "0.25"], folder / "alone.log")
    server.start()
    try:
        with Mongo._direct(port) as client:
            wait_for("mongod", lambda: client.admin.command("ping"), 60)
        yield f"mongodb://127.0.0.1:{port}/x", f"127.0.0.1:{port}", "is not a replica set: workflows need one"
    finally:
        server.kill()


@contextmanager
def mongodb_4_4(mongo: Mongo, folder: Path) -> Iterator[tuple[str, str, str]]:
    with old_mongod("4.4.29", 9) as port:
        url = f"mongodb://127.0.0.1:{port}/x?replicaSet=rs0"
        yield url, f"127.0.0.1:{port}", "4.4.29 is too old: workflows need 6.0 or newer"


@contextmanager
def tokumx(mongo: Mongo, folder: Path) -> Iterator[tuple[str, str, str]]:
    with old_mongod("2.4.10", 0) as port:
        url = f"mongodb://127.0.0.1:{port}/x?replicaSet=rs0"
        yield url, f"127.0.0.1:{port}", "is too old: workflows need 6.0 or newer"


@contextmanager
def expired_certificate(mongo: Mongo, folder: Path) -> Iterator[tuple[str, str, str]]:
    with behind_tls(mongo, folder, days=-1) as (url, place):
        yield url, place, "certificate has expired"


@contextmanager
def behind_tls(mongo: Mongo, folder: Path, days: int) -> Iterator[tuple[str, str]]:
    """The shared MongoDB behind a certificate that is good for so many days from now; its URL and place.

    A mongod of today does not start on a certificate that has expired: in life it expires under a running one.
    """
    if shutil.which("haproxy") is None:
        pytest.skip("haproxy is not installed")
    port = free_port()
    ca, both = certificate(days)
    (folder / "ca.pem").write_bytes(ca)
    (folder / "server.pem").write_bytes(both)
    lines = ["defaults", " mode tcp", " timeout connect 5s", " timeout client 60s", " timeout server 60s", "frontend f"]
    lines += [f" bind 127.0.0.1:{port} ssl crt {folder}/server.pem", " default_backend b", "backend b"]
    (folder / "tls.cfg").write_text("\n".join([*lines, f" server m 127.0.0.1:{mongo.ports[0]}", ""]))
    proxy = Process(["haproxy", "-db", "-f", str(folder / "tls.cfg")], folder / "tls.log")
    proxy.start()
    try:
        wait_for("the proxy", lambda: socket.create_connection(("127.0.0.1", port)).close() is None)
        plain = mongo.url("tls").replace(str(mongo.ports[0]), str(port)).replace("replicaSet=rs0&", "")
        yield f"{plain}&directConnection=true&tls=true&tlsCAFile={folder}/ca.pem", f"127.0.0.1:{port}"
    finally:
        proxy.kill()


def certificate(days: int) -> tuple[bytes, bytes]:
    """One that signs itself: alone, and with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=90))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(address, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
        .public_bytes(Encoding.PEM)
    )
    return made, made + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


FAULTS = [stopped, wrong_password, expired_certificate, alone, mongodb_4_4, tokumx]


@pytest.mark.parametrize(
    ("broken", "names"),
    [
        *(pytest.param(broken, ALL if broken is wrong_password else SOME, id=broken.__name__) for broken in FAULTS),
        *(pytest.param(broken, ALL, id=f"{broken.__name__}, all", marks=pytest.mark.faults) for broken in FAULTS),
    ],
)
def test_what_is_wrong_with_mongodb_is_said_in_a_line_by_every_command(
    broken: Fault, names: Sequence[str], desk: Desk, mongo: Mongo, tmp_path: Path
) -> None:
    with broken(mongo, tmp_path) as (url, place, cause):
        desk.environ["BBCTL_MONGO_URL"] = url
        prove(desk.ask_all(names), place, cause)


def test_behind_a_certificate_that_is_good_the_same_commands_work(desk: Desk, mongo: Mongo, tmp_path: Path) -> None:
    with behind_tls(mongo, tmp_path, days=1) as (url, _):
        desk.environ["BBCTL_MONGO_URL"] = url
        assert desk.ask("workflow", "list").code == 0
        assert desk.ask("stores", "status").code == 0


def test_a_command_that_starts_while_mongodb_elects_waits_for_the_new_primary(desk: Desk, tmp_path: Path) -> None:
    folder = tmp_path / "electing"
    folder.mkdir()
    mongo = Mongo.start(folder=folder)
    try:
        desk.environ["BBCTL_MONGO_URL"] = mongo.url()
        url = mongo.url("admin").replace("replicaSet=rs0&", "directConnection=true&")
        with pymongo.MongoClient[dict[str, Any]](url) as admin:
            admin.admin.command("replSetStepDown", 7, force=True)  # it leads again after that, on its own
        listed = desk.ask("workflow", "list")
        assert (listed.code, listed.text) == (0, "no workflow fits\n")
    finally:
        mongo.stop()


# -- a full disk -----------------------------------------------------------------------------------------------------


@pytest.mark.root
@pytest.mark.skipif(os.getuid() != 0 or shutil.which("nsenter") is None, reason="needs root: mounts a small disk")
def test_a_full_disk_under_mongodb_is_a_store_that_is_down_and_loses_nothing_acknowledged(
    desk: Desk, tmp_path: Path
) -> None:
    disk, folder = tmp_path / "disk", tmp_path / "mongo"
    disk.mkdir()
    folder.mkdir()
    mounting = f"mount -t tmpfs -o size=360m none {disk} && echo mounted && exec sleep 900"
    keeper = Process(["unshare", "-m", "sh", "-c", mounting], tmp_path / "keeper.log")
    keeper.start()
    try:
        wait_for("the disk", lambda: "mounted" in keeper.log.read_text())
        mongo = Mongo.start(folder=folder, inside=["nsenter", "-t", str(keeper.pid), "-m"], disk=disk)
        try:
            _fill_and_mend(desk, mongo, Path(f"/proc/{keeper.pid}/root{disk}/filler"))
        finally:
            mongo.stop()
    finally:
        keeper.kill()


def _fill_and_mend(desk: Desk, mongo: Mongo, filler: Path) -> None:
    desk.environ["BBCTL_MONGO_URL"] = mongo.url("x")
    rt = open_runtime(Settings(mongo_url=mongo.url("x")))
    try:
        client = workflows.add_client(rt, "c")[0].id
        acknowledged: list[str] = []
        fill(filler)
        with pytest.raises(StoreDown, match="MongoDB"):
            _submit(rt, client, acknowledged)
        assert mongo.nodes[0].child is not None
        mongo.nodes[0].child.wait(60)
        prove(desk.ask_all(SOME), f"127.0.0.1:{mongo.ports[0]}", "Connection refused")
        filler.unlink()
        mongo.nodes[0].start()
        mongo.primary()
        assert set(rt.store.by_ids(acknowledged)) == set(acknowledged)
    finally:
        rt.close()


def _submit(rt: Runtime, client: str, acknowledged: list[str]) -> None:
    for place in range(1000):
        new = NewWorkflow(name="n", subject=place, signal=NewNode(name="go", data="x" * 200_000))
        acknowledged += [root.id for root, _ in workflows.start_many(rt, client, [new])]


def fill(path: Path) -> None:
    """Writes until there is no room left."""
    with suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 65536)


# -- Redis -----------------------------------------------------------------------------------------------------------


def test_a_redis_that_will_not_have_us_is_named_and_work_goes_on_without_it(
    desk: Desk, mongo_url: str, redis_server: Redis
) -> None:
    desk.environ["BBCTL_MONGO_URL"] = mongo_url
    desk.environ["BBCTL_REDIS_URL"] = redis_server.url().replace(redis_server.password, SECRET)
    told = desk.ask_all(work_ends=False)
    codes = {"serve": None, "work": None, "wf list": 0, "stores status": 4, "doctor": 1, "diagnose": 1}
    assert {name: one.code for name, one in told.items()} == codes
    for name in ("serve", "work"):
        assert told[name].line(
            f"Redis 127.0.0.1:{redis_server.port}: it refuses our credentials", "work goes on without it"
        )
    for name in ("stores status", "doctor", "diagnose"):
        assert told[name].line("redis", "refuses our credentials"), name


def test_a_redis_that_lets_us_do_no_more_than_we_need_is_well(desk: Desk, mongo_url: str, redis_server: Redis) -> None:
    desk.environ["BBCTL_MONGO_URL"] = mongo_url
    limited = redis_server.url().replace("//:", "//limited:").replace(redis_server.password, SECRET)
    desk.environ["BBCTL_REDIS_URL"] = limited
    with redis.Redis.from_url(redis_server.url()) as admin:
        admin.execute_command("ACL", "SETUSER", "limited", "on", f">{SECRET}", "+ping", "+@list", "~bbctl:*")
        told = desk.ask("stores", "status")
        admin.execute_command("ACL", "DELUSER", "limited")
    assert told.code == 0, told.text


def test_all_that_one_request_asks_of_a_frozen_database_has_one_deadline_together() -> None:
    mongo = Mongo.start()
    rt = open_runtime(Settings(mongo_url=mongo.url(), redis_url="redis://127.0.0.1:1/0"))
    try:
        assert rt.store.node("0") is None
        mongo.nodes[0].send(signal.SIGSTOP)
        began = time.monotonic()
        with rt.store.within(0.5):
            for ask in (lambda: rt.store.node("0"), lambda: rt.store.bump_root("0", 1, 1), lambda: rt.node("0")):
                with pytest.raises(StoreDown):
                    ask()
        assert time.monotonic() - began < rt.settings.store_timeout, "each has had its own"
        mongo.nodes[0].send(signal.SIGCONT)
        assert wait_for("it to answer again", lambda: answers(rt))
    finally:
        mongo.nodes[0].send(signal.SIGCONT)
        rt.close()
        mongo.stop()


def answers(rt: Runtime) -> bool:
    with suppress(StoreDown):
        return rt.store.bump_root("0", 1, 1) is None
    return False
