"""What can be broken in the lab on purpose, and mended again."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from bbctl import child
from bbctl.errors import Failed, UsageError
from bbctl.inventory import fleet as inventory
from bbctl.lab import cluster, words
from bbctl.lab.ground import LATE, Ground, LabHost
from bbctl.lab.invoices import Batch
from bbctl.near import hint
from bbctl.ssh.transport import Transport

CLIENT = "client"
LOOKED_AT = 5  # invoices sent to a client that was just broken: otherwise nothing would show it


@dataclass(frozen=True)
class Fault:
    """`act` happens at once; without one a mark is left, which the host or the client reads."""

    about: str
    act: Callable[[LabHost], None] | None = None


def _crash(host: LabHost) -> None:
    child.end_all(lambda: cluster.launchers(host), grace=0)


def _drain(host: LabHost) -> None:
    host.heartbeat.unlink(missing_ok=True)


def _run_out_of_memory(host: LabHost) -> None:
    with host.log.open("a", encoding="utf-8") as file:
        file.write(words.line(time.time(), "ERROR", "org.jboss.as.ejb3", words.OUT_OF_MEMORY))


HOST_FAULTS: dict[str, Fault] = {
    "hang-on-stop": Fault("the next stop hangs after \"Stopping HornetQ\"; only KILL ends it"),
    "crash": Fault("JBoss is gone at once", _crash),
    "slow-start": Fault("the next start takes 20 s longer"),
    "never-started": Fault("the next start never says \"Started in\""),
    "never-healthy": Fault("after the next start /health stays 503"),
    "drained": Fault("somebody took it out of the VIP", _drain),
    "out-of-memory": Fault("an OutOfMemoryError in the log", _run_out_of_memory),
    "ssh-down": Fault("SSH refuses connections"),
    "host-key": Fault("SSH shows another host key"),
}  # fmt: skip
CLIENT_FAULTS: dict[str, Fault] = {
    "silent": Fault("takes posts and never reports"),
    "errors": Fault("answers every post with 500"),
    "slow": Fault("takes 5 s longer for every post"),
}


def break_(ground: Ground, target: str, name: str) -> str:
    """Break a host or the client; what was done, in words. UsageError names what there is."""
    known = CLIENT_FAULTS if target == CLIENT else HOST_FAULTS
    host = None if target == CLIENT else ground.named(target)
    fault = known.get(name)
    if fault is None:
        said = ", ".join(known)
        raise UsageError(
            f"{target} has no fault {name!r}{hint(name, known) or '.'} It has {said}", next="bbctl lab break --help"
        )
    if host is not None and fault.act is not None:
        fault.act(host)
    else:
        folder = ground.client_folder / "faults" if host is None else host.faults
        (folder / name).touch(mode=0o600)
    if host is not None:
        return f"{host.short}: {fault.about}"
    batch = Batch(ground, LOOKED_AT, 0.5)
    batch.start()
    batch.wait()
    if name == "silent":
        time.sleep(LATE + 1)  # so that whoever looks now sees it
    return f"{CLIENT}: {fault.about}; {len(batch.sent)} invoices are on their way, to look at"


def mend(ground: Ground, target: str) -> str:
    """Take all faults of a host or the client away; a JBoss that is down or hangs is started again, through SSH."""
    if target == CLIENT:
        for path in (ground.client_folder / "faults").iterdir():
            path.unlink()
        return f"{CLIENT}: mended"
    host = ground.named(target)
    sick = "never-healthy" in cluster.faults_of(host.faults) or not _serves(ground, host)
    for path in host.faults.iterdir():
        path.unlink()
    cluster.know_hosts(ground)
    host.heartbeat.write_text("in\n")
    if sick:
        child.end_all(lambda: cluster.launchers(host), grace=0)
        _start(ground, host)
    return f"{host.short}: mended{', JBoss started again' if sick else ''}"


def _serves(ground: Ground, host: LabHost) -> bool:
    return any(state.host == host and state.jboss and state.vip == "in" for state in cluster.hosts(ground)) or (
        bool(cluster.launchers(host)) and cluster.listens(host.address, ground.http_port)
    )


def _start(ground: Ground, host: LabHost) -> None:
    """As an administrator would: log in and call the init script."""
    fleet = inventory.load(ground.inventory, {})
    until = time.monotonic() + 10
    while True:
        with Transport(fleet) as transport:
            ran = transport.run(fleet.hosts[host.name], f"'{host.init}' start", timeout=20)
        if ran.ok:
            return
        if time.monotonic() > until:
            raise Failed(f"{host.name}: JBoss does not start: {ran.error}", next="bbctl lab status")
        time.sleep(0.3)
