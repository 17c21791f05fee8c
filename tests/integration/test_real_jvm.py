"""Thread dumps of a real JVM whose threads are locked: by SIGQUIT into its console log, by jstack, and where that is deaf."""

from __future__ import annotations

import getpass
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bbctl import threads
from bbctl.model import Host, Process, Service
from bbctl.ssh.transport import Transport
from tests.integration.sshd import farm, wait_for

JAVA = shutil.which("java")


@pytest.fixture(scope="module")
def jvm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Transport, Host]]:
    if JAVA is None:
        pytest.skip("no java here")
    folder = tmp_path_factory.mktemp("jvm")
    mark = f"locked-{folder.name}"
    with (folder / "console.log").open("wb") as console:
        words = [
            JAVA,
            "-XX:TieredStopAtLevel=1",
            "-Xmx64m",
            f"-Dmark={mark}",
            str(Path(__file__).with_name("Locked.java")),
        ]
        proc = subprocess.Popen(words, stdout=console, stderr=console)
    try:
        wait_for(lambda: b"locked" in (folder / "console.log").read_bytes(), "the JVM", limit=60)
        with farm(folder / "ssh", "h1", net=55) as made:
            service = Service(
                name="jboss",
                process=Process(match=f"-Dmark={mark}", user=getpass.getuser()),
                dump_log=str(folder / "console.log"),
            )
            host = replace(made.host("h1"), services=(service,))
            with Transport(made.fleet(host)) as transport:
                yield transport, host
    finally:
        proc.kill()
        proc.wait(10)


@pytest.mark.parametrize("kind", ["sigquit", "jstack"])
def test_a_real_dump_is_saved_and_its_deadlock_named(jvm: tuple[Transport, Host], tmp_path: Path, kind: str) -> None:
    transport, host = jvm
    asked = replace(host, services=(replace(host.services[0], thread_dump=kind),))  # type: ignore[arg-type]
    got = threads.take(transport, asked, "jboss", tmp_path, count=1)
    assert (got.status, got.error) == ("ok", None)
    assert "Full thread dump" in got.files[0].read_text()
    assert [set(ring.threads) for ring in got.deadlocks] == [{"invoice-1", "invoice-2"}]
    assert got.deadlocks[0].waits["invoice-1"] == "java.lang.Object"
    assert "Found one Java-level deadlock" in got.files[0].read_text()
