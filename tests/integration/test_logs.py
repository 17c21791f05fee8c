"""Logs over a real sshd: the end, what matches, what comes, through rotation and with hostile bytes."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bbctl.logs import Read, Source, Wanted, read
from bbctl.model import Host
from bbctl.ssh.transport import Transport
from tests.integration.sshd import Farm, Proxy, farm, processes, wait_for


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Farm, Transport]]:
    with farm(tmp_path_factory.mktemp("logs"), "h1", net=51) as made, Transport(made.fleet()) as transport:
        yield made, transport


class Reading:
    """A read in a thread of its own, and what it has passed on."""

    def __init__(self, hosts: tuple[Farm, Transport], path: Path, wanted: Wanted, host: Host | None = None) -> None:
        self.lines: list[bytes] = []
        self.notes: list[str] = []
        self.cancel = threading.Event()
        self.result: Read | None = None
        where = Source(host=host or hosts[0].host("h1"), path=str(path))
        self._thread = threading.Thread(target=self._run, args=(hosts[1], where, wanted))
        self._thread.start()

    def _run(self, transport: Transport, where: Source, wanted: Wanted) -> None:
        self.result = read(
            transport, where, wanted, cancel=self.cancel,
            emit=lambda _, batch: self.lines.extend(batch), note=lambda _, text: self.notes.append(text),
        )  # fmt: skip

    def end(self) -> Read:
        self._thread.join(30)
        assert self.result is not None
        return self.result

    def stop(self) -> None:
        self.cancel.set()
        self.end()


def add(path: Path, first: int, last: int) -> None:
    with path.open("a") as log:
        log.writelines(f"line {n}\n" for n in range(first, last + 1))


def numbered(last: int) -> list[bytes]:
    return [b"line %d" % n for n in range(1, last + 1)]


FOLLOW = Wanted(lines=1000, follow=True)


def test_the_last_lines_come_in_order_and_no_more_than_were_asked_for(
    hosts: tuple[Farm, Transport], tmp_path: Path
) -> None:
    add(tmp_path / "log", 1, 300)
    reading = Reading(hosts, tmp_path / "log", Wanted(lines=3))
    assert reading.end() == Read(status="ok", lines=3)
    assert reading.lines == [b"line 298", b"line 299", b"line 300"]


def test_a_log_that_is_not_there_is_a_failure_that_names_it(hosts: tuple[Farm, Transport], tmp_path: Path) -> None:
    got = Reading(hosts, tmp_path / "none", Wanted()).end()
    assert got.status == "failed"
    assert str(tmp_path / "none") in (got.error or "")


@pytest.mark.parametrize("wanted", [Wanted(), Wanted(grep=re.compile(b"x")), FOLLOW], ids=["last", "grep", "follow"])
def test_a_pipe_is_no_log_and_is_not_waited_for(hosts: tuple[Farm, Transport], tmp_path: Path, wanted: Wanted) -> None:
    os.mkfifo(tmp_path / "pipe")
    got = Reading(hosts, tmp_path / "pipe", wanted).end()
    assert got.status == "failed"
    assert "no regular file" in (got.error or "")


def test_a_match_brings_its_stack_trace_along_and_nothing_else(hosts: tuple[Farm, Transport], tmp_path: Path) -> None:
    trace = [
        "java.lang.OutOfMemoryError: Java heap space",
        "\tat a.B.c(B.java:1)",
        "Caused by: a.X: y",
        "\t... 3 more",
        " a.b.OtherError: z",
    ]
    lines = [
        "03:00 INFO one",
        "03:01 ERROR it broke",
        *trace,
        "03:02 INFO two",
        "03:03 ERROR again",
        "03:04 INFO three",
    ]
    (tmp_path / "log").write_text("\n".join(lines) + "\n")
    reading = Reading(hosts, tmp_path / "log", Wanted(lines=None, grep=re.compile(b"error ", re.IGNORECASE)))
    assert reading.end().lines == 7
    assert [line.decode() for line in reading.lines] == ["03:01 ERROR it broke", *trace, "03:03 ERROR again"]


def test_since_and_until_cut_a_large_log_by_its_dates_without_reading_all_of_it(
    hosts: tuple[Farm, Transport], tmp_path: Path
) -> None:
    with (tmp_path / "log").open("w") as log:
        for n in range(60_000):
            log.write(f"2026-03-{1 + n // 2400:02d} {n // 100 % 24:02d}:{n % 60:02d}:00,000 +0000 INFO {n}\n")
    wanted = Wanted(lines=None, since=1773144000.0, until=1773147599.0)  # 2026-03-10 12:00 to 12:59:59 UTC
    reading = Reading(hosts, tmp_path / "log", wanted)
    assert reading.end().status == "ok"
    assert [line.split()[-1] for line in reading.lines] == [b"%d" % n for n in range(22800, 22900)]


def test_a_file_that_is_renamed_and_made_anew_loses_and_doubles_no_line(
    hosts: tuple[Farm, Transport], tmp_path: Path
) -> None:
    path = tmp_path / "log"
    add(path, 1, 50)
    reading = Reading(hosts, path, FOLLOW)
    wait_for(lambda: len(reading.lines) == 50, "the first lines")
    for turn in range(1, 4):
        add(path, turn * 50 + 1, turn * 50 + 20)
        path.rename(tmp_path / f"log.{turn}")
        add(tmp_path / f"log.{turn}", turn * 50 + 21, turn * 50 + 40)  # a writer that has not yet opened the new one
        add(path, turn * 50 + 41, turn * 50 + 50)
        wait_for(lambda done=turn * 50 + 50: len(reading.lines) >= done, f"turn {turn}")  # type: ignore[misc]
    reading.stop()
    assert sorted(reading.lines, key=lambda line: int(line.split()[1])) == numbered(200)
    assert any("replaced" in note for note in reading.notes)


def test_lines_that_a_writer_adds_to_the_renamed_file_after_the_new_one_is_there_are_read_too(
    hosts: tuple[Farm, Transport], tmp_path: Path
) -> None:
    path = tmp_path / "log"
    add(path, 1, 2)
    reading = Reading(hosts, path, FOLLOW)
    wait_for(lambda: len(reading.lines) == 2, "the first lines")
    path.rename(tmp_path / "log.1")
    add(path, 3, 3)
    wait_for(lambda: b"line 3" in reading.lines, "the new file")
    add(tmp_path / "log.1", 4, 4)
    wait_for(lambda: b"line 4" in reading.lines, "the late line")
    reading.stop()
    assert reading.lines == numbered(4)


def test_a_file_that_is_cut_in_place_is_told_and_read_from_its_new_beginning(
    hosts: tuple[Farm, Transport], tmp_path: Path
) -> None:
    path = tmp_path / "log"
    add(path, 1, 20)
    reading = Reading(hosts, path, FOLLOW)
    wait_for(lambda: len(reading.lines) == 20, "the first lines")
    os.truncate(path, 0)
    wait_for(lambda: any("cut" in note for note in reading.notes), "a notice")
    add(path, 21, 22)
    wait_for(lambda: len(reading.lines) == 22, "the new lines")
    reading.stop()
    assert reading.lines == numbered(22)


def test_a_file_that_is_not_there_yet_is_waited_for_and_read_from_its_beginning(
    hosts: tuple[Farm, Transport], tmp_path: Path
) -> None:
    reading = Reading(hosts, tmp_path / "log", replace(FOLLOW, lines=1))
    wait_for(lambda: any("not there yet" in note for note in reading.notes), "a notice")
    add(tmp_path / "log.new", 1, 5)
    (tmp_path / "log.new").rename(tmp_path / "log")
    wait_for(lambda: len(reading.lines) >= 5 or None, "its lines")
    reading.stop()
    assert reading.lines == numbered(5)


def test_following_for_a_while_ends_well_and_leaves_nothing_running(
    hosts: tuple[Farm, Transport], tmp_path: Path
) -> None:

    add(tmp_path / "log", 1, 2)
    reading = Reading(hosts, tmp_path / "log", replace(FOLLOW, seconds=1.0))
    assert reading.end() == Read(status="ok", lines=2)
    wait_for(lambda: not processes(str(tmp_path / "log")), "the follower to end")


def test_one_endless_line_is_passed_on_in_pieces_and_nothing_of_it_is_lost(
    hosts: tuple[Farm, Transport], tmp_path: Path
) -> None:
    (tmp_path / "log").write_bytes(b"x" * (20 << 20) + b"\nlast\n")
    reading = Reading(hosts, tmp_path / "log", Wanted(lines=5))
    assert reading.end().status == "ok"
    assert reading.lines[-1] == b"last"
    assert sum(map(len, reading.lines[:-1])) == 20 << 20
    assert max(map(len, reading.lines)) <= 2 << 20


def test_bytes_that_are_no_text_come_through_as_they_are(hosts: tuple[Farm, Transport], tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"\xff\xfe\0\x1b[2J bad\r\nnext")
    reading = Reading(hosts, tmp_path / "log", Wanted())
    reading.end()
    assert reading.lines == [b"\xff\xfe\0\x1b[2J bad\r", b"next"]


def behind_a_proxy(made: Farm) -> tuple[Proxy, Host]:
    proxy = made.proxy("h1")
    line = made.known_line("h1", address="127.0.0.1").replace(f":{made.port}", f":{proxy.port}")
    made.known_hosts.write_text(made.known_hosts.read_text() + line)
    return proxy, made.host("h1", address="127.0.0.1", port=proxy.port)


def test_what_comes_while_a_host_is_out_of_sight_is_read_also_where_nothing_had_come_before(
    hosts: tuple[Farm, Transport], tmp_path: Path
) -> None:
    made, path = hosts[0], tmp_path / "log"
    proxy, host = behind_a_proxy(made)
    path.write_text("old\n")
    with Transport(made.fleet(host)) as transport:
        reading = Reading((made, transport), path, Wanted(lines=0, follow=True), host)
        wait_for(lambda: processes(f"{path} 0"), "the follower")
        proxy.mode = "cut"
        wait_for(lambda: any("out of sight" in text for text in reading.notes), "a notice")
        add(path, 1, 3)
        proxy.mode = "pass"
        wait_for(lambda: len(reading.lines) >= 3, "what came meanwhile", 30)
        reading.stop()
    assert reading.lines == numbered(3)
    assert "is in sight again; goes on where it ended" in reading.notes


def test_a_connection_that_dies_is_made_anew_and_no_line_is_lost_or_comes_twice(
    hosts: tuple[Farm, Transport], tmp_path: Path
) -> None:
    """Half a line at the moment of the cut, more while the host is out of sight; and, the second time, a rotation."""
    made, path = hosts[0], tmp_path / "log"
    proxy, host = behind_a_proxy(made)
    add(path, 1, 20)
    with Transport(made.fleet(host)) as transport:
        reading = Reading((made, transport), path, FOLLOW, host)
        for turn, rotate in ((1, False), (2, True)):
            with path.open("a") as log:
                log.write(f"line {turn * 20 + 1}")
            wait_for(lambda n=turn * 20: len(reading.lines) == n, "what was whole")  # type: ignore[misc]
            proxy.mode = "cut"
            wait_for(lambda n=turn: sum("out of sight" in text for text in reading.notes) == n, "a notice")  # type: ignore[misc]
            with path.open("a") as log:
                log.write("\n")
            add(path, turn * 20 + 2, turn * 20 + 10)
            if rotate:
                path.rename(tmp_path / "log.1")
            add(path, turn * 20 + 11, turn * 20 + 20)
            proxy.mode = "pass"
            wait_for(lambda n=turn * 20 + 20: len(reading.lines) >= n, "the rest", 30)  # type: ignore[misc]
        reading.stop()
    assert reading.lines == numbered(60)
    assert [text for text in reading.notes if "in sight again" in text] == [
        "is in sight again; goes on where it ended"
    ] * 2
    assert reading.result == Read(status="interrupted", error="interrupted", lines=60)
