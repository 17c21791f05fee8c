"""Peers that are libraries, each as a small program: PEER WHAT, with the hosts as JSON on stdin. WHAT is how many commands on
each host (prints how many answers), `one` (prints the ms of one command more, on the first), or for Fabric `tail COMMAND`.

Run by the Python that has the library: nothing of bbctl but its own contestant is imported here.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

COMMAND = "uptime"
WIDTH = 32
MORE = 40  # commands of which the median is one


def fabric(job: dict[str, Any], rounds: int) -> int:
    """Fabric's ThreadingGroup as shipped: it checks no host keys."""
    from fabric import Connection, ThreadingGroup

    options = {"key_filename": job["key"], "allow_agent": False, "look_for_keys": False}
    group = ThreadingGroup.from_connections(
        Connection(a, user=job["user"], port=job["port"], connect_kwargs=dict(options)) for a in job["addresses"]
    )
    answers = sum(len(group.run(COMMAND, hide=True)) for _ in range(rounds))
    group.close()
    return answers


def asyncssh(job: dict[str, Any], rounds: int) -> int:
    """asyncssh with fast settings, host keys checked, 64 at once."""
    import asyncio

    import asyncssh as library

    known = library.read_known_hosts(job["known_hosts"])
    key = library.read_private_key(job["key"])
    gate = asyncio.Semaphore(64)

    async def one(address: str) -> int:
        async with gate, library.connect(
            address, job["port"], username=job["user"], client_keys=[key], known_hosts=known, agent_path=None, config=None,
            encryption_algs=["aes128-gcm@openssh.com"], kex_algs=["curve25519-sha256"], compression_algs=None,
        ) as connection:  # fmt: skip
            return sum([len((await connection.run(COMMAND)).stdout) > 0 for _ in range(rounds)])

    async def everybody() -> int:
        return sum(await asyncio.gather(*(one(a) for a in job["addresses"])))

    return asyncio.run(everybody())


def _fleet(job: dict[str, Any]) -> tuple[list[Any], Any]:
    from pathlib import Path

    from bbctl.model import Fleet, Host, Ssh

    ssh = Ssh(user=job["user"], port=job["port"], identity_file=Path(job["key"]), known_hosts=Path(job["known_hosts"]))
    hosts = [Host(name=n, address=a, ssh=ssh) for n, a in zip(job["names"], job["addresses"], strict=True)]
    return hosts, Fleet(source=None, site="", hosts={h.name: h for h in hosts}, groups={})


def ours(job: dict[str, Any], rounds: int) -> int:
    """bbctl's transport as a library, the command worded and guarded as by `bbctl exec`."""
    from bbctl.remote.shell import program
    from bbctl.ssh.transport import Transport

    hosts, fleet = _fleet(job)
    with Transport(fleet) as transport:

        def one(host: Any) -> int:
            return sum(
                transport.run(host, program([COMMAND]), timeout=60, guard=job["guard"]).ok for _ in range(rounds)
            )

        with ThreadPoolExecutor(WIDTH) as pool:
            return sum(pool.map(one, hosts))


PEERS: dict[str, Callable[[dict[str, Any], int], int]] = {"fabric": fabric, "asyncssh": asyncssh, "ours": ours}


def middle(again: Callable[[], object]) -> float:
    """The median of some calls after the first, in ms."""
    again()
    spent = []
    for _ in range(MORE):
        began = time.perf_counter()
        again()
        spent.append(time.perf_counter() - began)
    return statistics.median(spent) * 1000


def one_fabric(job: dict[str, Any]) -> float:
    from fabric import Connection

    options = {"key_filename": job["key"], "allow_agent": False, "look_for_keys": False}
    with Connection(job["addresses"][0], user=job["user"], port=job["port"], connect_kwargs=options) as connection:
        return middle(lambda: connection.run(COMMAND, hide=True))


def one_asyncssh(job: dict[str, Any]) -> float:
    import asyncio

    import asyncssh as library

    async def everything() -> float:
        async with library.connect(
            job["addresses"][0], job["port"], username=job["user"], client_keys=[library.read_private_key(job["key"])],
            known_hosts=library.read_known_hosts(job["known_hosts"]), agent_path=None, config=None,
            encryption_algs=["aes128-gcm@openssh.com"], kex_algs=["curve25519-sha256"], compression_algs=None,
        ) as connection:  # fmt: skip
            spent = []
            for _ in range(MORE + 1):
                began = time.perf_counter()
                await connection.run(COMMAND)
                spent.append(time.perf_counter() - began)
            return statistics.median(spent[1:]) * 1000

    return asyncio.run(everything())


def one_ours(job: dict[str, Any]) -> float:
    from bbctl.remote.shell import program
    from bbctl.ssh.transport import Transport

    hosts, fleet = _fleet(job)
    with Transport(fleet) as transport:
        return middle(lambda: transport.run(hosts[0], program([COMMAND]), timeout=60, guard=job["guard"]))


ONE: dict[str, Callable[[dict[str, Any]], float]] = {"fabric": one_fabric, "asyncssh": one_asyncssh, "ours": one_ours}


def tail(job: dict[str, Any], command: str) -> int:
    """Fabric's ThreadingGroup, its output to stdout as it comes."""
    from fabric import Connection, ThreadingGroup

    options = {"key_filename": job["key"], "allow_agent": False, "look_for_keys": False}
    group = ThreadingGroup.from_connections(
        Connection(a, user=job["user"], port=job["port"], connect_kwargs=dict(options)) for a in job["addresses"]
    )
    return len(group.run(command, in_stream=False))


if __name__ == "__main__":
    peer, what, *more = sys.argv[1:]
    asked = json.load(sys.stdin)
    print(
        ONE[peer](asked) if what == "one" else tail(asked, *more) if what == "tail" else PEERS[peer](asked, int(what))
    )
