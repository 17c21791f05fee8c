"""Peers that are libraries, each as a small program: PEER ROUNDS, with the hosts as JSON on stdin. Prints the answers' number.

Run by the Python that has the library: nothing of bbctl but its own contestant is imported here.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

COMMAND = "uptime"
WIDTH = 32


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


def ours(job: dict[str, Any], rounds: int) -> int:
    """bbctl's transport as a library, guarded as `bbctl exec` is."""
    from pathlib import Path

    from bbctl.model import Fleet, Host, Ssh
    from bbctl.ssh.transport import Transport

    ssh = Ssh(user=job["user"], port=job["port"], identity_file=Path(job["key"]), known_hosts=Path(job["known_hosts"]))
    hosts = [Host(name=n, address=a, ssh=ssh) for n, a in zip(job["names"], job["addresses"], strict=True)]
    with Transport(Fleet(source=None, site="", hosts={h.name: h for h in hosts}, groups={})) as transport:

        def one(host: Host) -> int:
            return sum(transport.run(host, COMMAND, timeout=60, guard=job["guard"]).ok for _ in range(rounds))

        with ThreadPoolExecutor(WIDTH) as pool:
            return sum(pool.map(one, hosts))


PEERS: dict[str, Callable[[dict[str, Any], int], int]] = {"fabric": fabric, "asyncssh": asyncssh, "ours": ours}

if __name__ == "__main__":
    found = PEERS[sys.argv[1]](json.load(sys.stdin), int(sys.argv[2]))
    print(found)
