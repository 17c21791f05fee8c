"""The embedded stores: real mongod, real Redis, a keeper that survives what is done to it."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymongo
import pytest
import redis
from pymongo.errors import OperationFailure

from bbctl import child
from bbctl.errors import StoreDown
from bbctl.stores import embedded as stores
from bbctl.stores import servers
from bbctl.stores.embedded import StoreUrls
from tests.integration.servers import tidy_environment, wait_for


def quiet(text: str) -> None:
    """Nobody listens."""


def works(urls: StoreUrls) -> bool:
    """A write to both comes back."""
    with pymongo.MongoClient[dict[str, Any]](urls.mongo, w="majority", journal=True, timeoutMS=20000) as client:
        client.get_default_database()["kept"].update_one({"_id": 1}, {"$inc": {"n": 1}}, upsert=True)
    with redis.Redis.from_url(urls.redis) as hints:
        return bool(hints.incr("kept"))


def written(urls: StoreUrls) -> int:
    with pymongo.MongoClient[dict[str, Any]](urls.mongo, timeoutMS=20000) as client:
        found = client.get_default_database()["kept"].find_one({"_id": 1})
        return int(found["n"]) if found else 0


def processes(home: Path) -> list[str]:
    """Command lines of everything alive that names this home."""
    found = child.find(lambda words: any(str(home) in word for word in words))
    return [" ".join(child.command(process.pid)) for process in found]


def pids(home: Path) -> dict[str, int | None]:
    """Who runs now: keeper, standby, mongo, redis."""
    record = json.loads((servers.folder(home) / "keeper.json").read_text())
    waiting = child.find(lambda words: words[-2:] == (str(home), "--standby"))
    found = {name: record.get(name, {}).get("process") for name in ("mongo", "redis")}
    return {
        "keeper": record["keeper"]["pid"],
        "standby": next((one.pid for one in waiting if one.pid != record["keeper"]["pid"]), None),
        **{name: process["pid"] if process else None for name, process in found.items()},
    }


def squatter(port: int) -> socket.socket:
    """Somebody else's server, of the worst kind: it takes connections and says nothing."""
    return socket.create_server(("127.0.0.1", port))


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "a home"
    place.mkdir()
    yield place
    stores.down(place)


def test_both_stores_come_up_and_take_writes(home: Path) -> None:
    said: list[str] = []
    urls = stores.ensure_stores(home, say=said.append)
    assert works(urls)
    assert len(said) == 1
    found = stores.status(home)
    assert {name: found[name]["state"] for name in found} == {"mongo": "ok", "redis": "ok"}
    assert found["mongo"]["pid"] == pids(home)["mongo"]
    assert stores.ensure_stores(home, say=quiet) == urls


def test_the_first_command_says_once_that_it_uses_them(home: Path) -> None:
    for expected in ("the first, which starts them", "the next"):
        command = [sys.executable, "-m", "bbctl", "client", "list", "-o", "json"]
        environment = {**os.environ, "BBCTL_HOME": str(home), "BBCTL_INVENTORY": "none"}
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, expected
        assert ran.stderr.splitlines() == [f"no store is named: using the embedded MongoDB and Redis of {home}"], (
            expected
        )


def test_mongod_is_a_replica_set_that_keeps_strangers_out(home: Path) -> None:
    urls = stores.ensure_stores(home, say=quiet)
    port = stores.status(home)["mongo"]["port"]
    with pymongo.MongoClient[dict[str, Any]]("127.0.0.1", port, directConnection=True, timeoutMS=10000) as stranger:
        assert stranger.admin.command("hello")["setName"] == "rs0"
        with pytest.raises(OperationFailure, match="requires authentication"):
            stranger.get_database("backbeat")["kept"].find_one()
        with pytest.raises(OperationFailure, match="requires authentication"):
            stranger.admin.command("createUser", "mallory", pwd="x", roles=["root"])
    with pymongo.MongoClient[dict[str, Any]](urls.mongo, timeoutMS=20000) as client, client.start_session() as session:
        with session.start_transaction():
            client.get_default_database()["t"].insert_one({"_id": 1}, session=session)
        assert client.get_default_database()["t"].count_documents({}) == 1
    with (
        redis.Redis(port=stores.status(home)["redis"]["port"]) as stranger_too,
        pytest.raises(redis.AuthenticationError),
    ):
        stranger_too.ping()


def test_no_password_is_in_a_command_line_or_a_file_that_others_may_read(home: Path) -> None:
    urls = stores.ensure_stores(home, say=quiet)
    known = servers.known(home)
    assert known is not None
    secrets = set(vars(known).values())
    assert all(secret in urls.mongo + urls.redis for secret in secrets - {known.mongo_key})
    assert not [line for line in processes(home) for secret in secrets if secret in line]
    for path in servers.folder(home).rglob("*"):
        if path.is_file() and not path.is_relative_to(servers.folder(home) / "mongo" / "data"):
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_two_homes_never_collide(home: Path, tmp_path: Path) -> None:
    other = tmp_path / "another"
    other.mkdir()
    try:
        one, two = stores.ensure_stores(home, say=quiet), stores.ensure_stores(other, say=quiet)
        assert works(one)
        assert written(two) == 0
        stores.down(other)
        assert works(one)
    finally:
        stores.down(other)


def test_of_two_starters_one_starts_and_both_go_on(home: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from bbctl.stores import embedded as stores\n"
        "print(stores.ensure_stores(Path(sys.argv[1]), say=lambda text: None))"
    )
    both = [subprocess.Popen([sys.executable, "-c", code, str(home)], stdout=subprocess.PIPE) for _ in range(4)]
    said = {process.communicate(timeout=60)[0] for process in both}
    assert [process.returncode for process in both] == [0, 0, 0, 0]
    assert len(said) == 1
    assert len([line for line in processes(home) if "mongod" in line]) == 1
    assert len([line for line in processes(home) if "redis.conf" in line]) == 1


@pytest.mark.parametrize("victims", [["mongo"], ["redis"], ["keeper"], ["standby"], ["mongo", "redis", "keeper"]])
def test_a_kill_9_is_survived_without_anybody_asking(home: Path, victims: list[str]) -> None:
    urls = stores.ensure_stores(home, say=quiet)
    works(urls)
    wait_for("all", lambda: all(pids(home).values()))
    before = pids(home)
    for victim in victims:
        os.kill(before[victim] or 0, signal.SIGKILL)
    wait_for("others in their place", lambda: all(pids(home)[v] not in (before[v], None) for v in victims))
    wait_for("both ok", lambda: all(one["state"] == "ok" for one in stores.status(home).values()))
    assert works(urls), "the same URLs hold"
    assert written(urls) == 2, "nothing was lost"


def test_a_kill_9_of_everything_is_survived_by_the_next_who_asks(home: Path) -> None:
    urls = stores.ensure_stores(home, say=quiet)
    works(urls)
    for process in child.find(lambda words: any(str(home) in word for word in words)):
        child.end([process], signal.SIGKILL)
    wait_for("nothing left", lambda: not processes(home))
    assert stores.ensure_stores(home, say=quiet) == urls
    assert written(urls) == 1


def test_whoever_runs_on_a_look_after_the_stores_starts_the_keeper_again(home: Path) -> None:
    urls = stores.ensure_stores(home, say=quiet)
    over = stores.look_after(home, every=0.05)
    for process in child.find(lambda words: any(str(home) in word for word in words)):
        child.end([process], signal.SIGKILL)
    wait_for("both ok", lambda: all(one["state"] == "ok" for one in stores.status(home).values()))
    assert works(urls)
    stores.down(home)
    over.set()
    assert not processes(home)


def test_servers_that_outlived_their_keeper_are_ended_before_new_ones_start(home: Path) -> None:
    stores.ensure_stores(home, say=quiet)
    stores.down(home)
    program = servers.binary("redis", os.environ)
    orphan = subprocess.Popen([program, *servers.tail(home, "redis")])
    urls = stores.ensure_stores(home, say=quiet)
    assert orphan.wait(10) is not None
    assert works(urls)
    assert len([line for line in processes(home) if "redis.conf" in line]) == 1


def test_a_port_taken_meanwhile_gives_another_port_and_the_same_data(home: Path) -> None:
    urls = stores.ensure_stores(home, say=quiet)
    works(urls)
    ports = {name: one["port"] for name, one in stores.status(home).items()}
    stores.down(home)
    with squatter(ports["mongo"]), squatter(ports["redis"]):
        moved = stores.ensure_stores(home, say=quiet)
        now = {name: one["port"] for name, one in stores.status(home).items()}
        assert not set(now.values()) & set(ports.values())
        assert works(moved)
        assert written(moved) == 2


def test_down_leaves_no_process_and_keeps_the_data(home: Path) -> None:
    urls = stores.ensure_stores(home, say=quiet)
    works(urls)
    assert stores.down(home)
    assert not processes(home)
    assert {one["state"] for one in stores.status(home).values()} == {"stopped"}
    assert not stores.down(home)
    assert written(stores.ensure_stores(home, say=quiet)) == 1


def test_down_while_they_start_leaves_no_process(home: Path) -> None:
    """The asker waits for what another has just told to stop: it starts them again or is told, and never hangs."""
    ended: list[object] = []

    def ask() -> None:
        try:
            ended.append(stores.ensure_stores(home, say=quiet))
        except StoreDown as error:
            ended.append(error)

    asker = threading.Thread(target=ask)
    asker.start()
    wait_for("a keeper", lambda: processes(home))
    stores.down(home)
    asker.join(60)
    assert ended
    stores.down(home)
    assert not processes(home)


def test_a_home_that_vanishes_takes_its_stores_along(home: Path) -> None:
    stores.ensure_stores(home, say=quiet)
    servers.folder(home).rename(home / "gone")
    wait_for("nothing left", lambda: not processes(home))


def test_a_server_that_does_not_stay_up_is_named_with_its_log(home: Path) -> None:
    stores.ensure_stores(home, say=quiet)
    stores.down(home)
    (servers.folder(home) / "mongo" / "data" / "WiredTiger.turtle").write_text("no longer a database\n")
    with pytest.raises(StoreDown, match="mongod does not come up") as caught:
        stores.ensure_stores(home, say=quiet)
    assert "server.log" in str(caught.value)
    assert "BBCTL_MONGO_URL" in str(caught.value.next)


def bbctl(home: Path, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    environ = {**tidy_environment(), "BBCTL_HOME": str(home), "BBCTL_INVENTORY": "none", **more}
    words = (sys.executable, "-m", "bbctl", *words)
    return subprocess.run(words, capture_output=True, text=True, timeout=60, env=environ, check=False)


def test_up_status_and_down_on_the_command_line_mask_passwords_unless_asked(home: Path) -> None:
    assert bbctl(home, "stores", "up").returncode == 0
    found = json.loads(bbctl(home, "stores", "status", "-o", "json").stdout)
    assert {found[name]["state"] for name in ("mongo", "redis")} == {"ok"}
    assert ":***@" in found["mongo"]["url"]
    assert ":***@" in found["redis"]["url"]
    open_ones = json.loads(bbctl(home, "stores", "status", "-o", "json", "--show-passwords").stdout)
    assert works(StoreUrls(mongo=open_ones["mongo"]["url"], redis=open_ones["redis"]["url"]))
    assert bbctl(home, "stores", "down").returncode == 0
    assert bbctl(home, "stores", "status").returncode == 1
    assert not processes(home)


@pytest.mark.parametrize("verb", ["up", "down"])
def test_a_named_store_refuses_up_and_down_without_its_password(home: Path, verb: str) -> None:
    named = "mongodb://ann:canary@127.0.0.1:1/x?replicaSet=rs0"
    refused = bbctl(home, "stores", verb, "-o", "json", BBCTL_MONGO_URL=named)
    assert refused.returncode == 3
    assert json.loads(refused.stdout)["error"]["code"] == "stores-named"
    assert "canary" not in refused.stdout + refused.stderr
    assert not processes(home)


def test_a_platform_without_servers_is_told_how_to_name_running_ones(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(home))
    monkeypatch.setattr("bbctl.stores.servers._wheel", lambda name: None)
    with pytest.raises(StoreDown, match="no mongod") as caught:
        stores.ensure_stores(home, say=quiet)
    assert "BBCTL_MONGO_URL" in str(caught.value.next)


def test_a_server_on_embedded_stores_outlives_a_kill_9_of_keeper_standby_and_stores(home: Path) -> None:
    environ = {**tidy_environment(), "BBCTL_HOME": str(home), "BBCTL_INVENTORY": "none"}
    command = [sys.executable, "-m", "bbctl", "serve", "--port", "0", "-o", "json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environ, text=True) as server:
        try:
            assert server.stdout is not None
            said = "".join(iter(server.stdout.readline, "}\n")) + "}"
            port = int(json.loads(said)["url"].rpartition(":")[2])

            def health() -> int:
                link = http.client.HTTPConnection("127.0.0.1", port, timeout=15)
                try:
                    link.request("GET", "/health")
                    return link.getresponse().status
                finally:
                    link.close()

            assert health() == 200
            wait_for("a standby", lambda: pids(home)["standby"])
            for pid in pids(home).values():
                os.kill(pid or 0, signal.SIGKILL)
            wait_for("others in their place", lambda: all(pids(home).values()))
            wait_for("healthy again", lambda: health() == 200)
        finally:
            server.terminate()
