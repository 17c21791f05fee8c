"""A lab host: one process that is its init and its SSH server. At boot it starts JBoss by the init script.

    python -m bbctl.lab.host FOLDER

Needs no root and no openssh-server. Runs until TERM. `faults/ssh-down` closes its door while it is there.
"""

from __future__ import annotations

import getpass
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import paramiko

from bbctl.lab.children import Children
from bbctl.lab.ground import Ground, LabHost, load
from bbctl.lab.keys import made
from bbctl.lab.login import Login

LOOK = 0.5  # seconds between two looks at the faults
ALIVE = 15  # seconds without a byte before a connection is asked whether it still is one


@dataclass
class Machine:
    ground: Ground
    host: LabHost
    children: Children
    door: socket.socket | None = None
    connections: set[paramiko.Transport] = field(default_factory=set)
    ending: bool = False

    def run(self) -> None:
        self.children.adopt()
        wake, bell = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(bell, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._stop)
        self._boot()
        while not self.ending:
            self._door()
            door = self.door.fileno() if self.door else wake
            ready = select.select({wake, door}, [], [], LOOK)[0]
            with suppress(BlockingIOError):
                while wake in ready and os.read(wake, 512):
                    pass
            if self.door and door in ready:
                self._let_in()
            self.children.bury()
        for connection in list(self.connections):
            connection.close()
        self.children.end()

    def _boot(self) -> None:
        with (self.host.folder / "log" / "boot.log").open("ab") as log:
            process = self.children.start(
                [str(self.host.init), "start"], env=self._environ(), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self.children.wait(process)

    def _door(self) -> None:
        """Open or closed, as the faults have it."""
        closed = (self.host.faults / "ssh-down").exists()
        if closed and self.door is not None:
            self.door.close()
            self.door = None
            for connection in list(self.connections):
                connection.close()
        elif not closed and self.door is None:
            self.door = socket.create_server((self.host.address, self.ground.ssh_port), backlog=128)

    def _let_in(self) -> None:
        assert self.door is not None
        with suppress(OSError):
            link = self.door.accept()[0]
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._serve, args=(link,), daemon=True).start()

    def _serve(self, link: socket.socket) -> None:
        other = "-other" if (self.host.faults / "host-key").exists() else ""
        transport = paramiko.Transport(link)
        transport.add_server_key(made(self.host.folder / f"host_key{other}"))
        transport.set_keepalive(ALIVE)
        login = Login(
            user=getpass.getuser(), key=made(self.ground.key), environ=self._environ(), children=self.children,
            forwards=(self.host.address, self.host.name, "localhost", "127.0.0.1"),
        )  # fmt: skip
        self.connections.add(transport)
        try:
            transport.start_server(server=login)
            while transport.is_active():
                channel = transport.accept(1.0)
                if channel is not None:
                    login.forward(channel)
        except (paramiko.SSHException, EOFError, OSError):
            pass
        finally:
            transport.close()
            self.connections.discard(transport)

    def _environ(self) -> dict[str, str]:
        user = getpass.getuser()
        return {
            "HOME": str(self.host.home), "USER": user, "LOGNAME": user, "SHELL": "/bin/sh", "LANG": "C.UTF-8",
            "PATH": os.environ.get("PATH", os.defpath), "HOSTNAME": self.host.name, "PS1": f"{user}@{self.host.short} $ ",
        }  # fmt: skip

    def _stop(self, *_: object) -> None:
        self.ending = True


def main(folder: Path) -> int:
    ground = load(folder.parent.parent)
    if ground is None:
        return 2
    logging.getLogger("paramiko").setLevel(logging.CRITICAL)
    host = ground.named(folder.name)
    Machine(ground, host, Children(str(host.home))).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
