"""Real sshd on loopback addresses, and servers that are broken on purpose: what the tests of host operations log in to.

`Farm` makes a folder with a user key, host keys, a known_hosts, and one sshd process that listens on every address; it runs
as whoever runs the tests (root or not) and logs that user in. `Broken` and `Proxy` are plain sockets.
"""

from __future__ import annotations

import getpass
import os
import select
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest

from bbctl.model import Fleet, Host, Ssh
from tests.integration.servers import free_port

T = TypeVar("T")
SSHD = shutil.which("sshd", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


def wait_for(condition: Callable[[], T], what: str, limit: float = 30.0) -> T:
    """The first true value of `condition`; fails the test when there is none within `limit` seconds."""
    end = time.monotonic() + limit
    while True:
        if value := condition():
            return value
        if time.monotonic() > end:
            pytest.fail(f"waited {limit}s for {what}")
        time.sleep(0.02)


def processes(mark: str) -> list[int]:
    """Living processes whose command line holds `mark`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with suppress(OSError):
                words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if mark in words and (entry / "stat").read_text().rsplit(") ", 1)[1][0] not in "ZX":
                    found.append(int(entry.name))
    return found


@dataclass
class Farm:
    """Hosts `h1…hN` (or the names given), each on an address of its own. `port` is the same for all, as in a real fleet."""

    folder: Path
    names: tuple[str, ...]
    net: int = 40
    settings: str = ""
    port: int = field(default_factory=free_port)
    inside: tuple[str, ...] = ()  # words in front of sshd: where it is to run
    _sshd: list[subprocess.Popen[bytes]] = field(default_factory=list)
    _closers: list[Callable[[], None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        if SSHD is None:
            pytest.skip("openssh-server is not installed")
        self.folder.mkdir(parents=True, exist_ok=True)
        self.addresses = {name: f"127.0.{self.net}.{n}" for n, name in enumerate(self.names, 1)}
        self.key = self.keygen("id")
        self.host_key = self.keygen("host")
        (self.folder / "authorized_keys").write_text((self.folder / "id.pub").read_text())
        self.known_hosts = self.folder / "known_hosts"
        self.known_hosts.write_text("".join(self.known_line(name) for name in self.names))
        (self.folder / "home").mkdir(
            exist_ok=True
        )  # whoever logs in has no start-up files that have a say of their own
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)
        self.log = self.folder / "sshd.log"
        every = list(self.addresses.values())
        for at in range(0, len(every), 16):  # sshd listens on 16 addresses at most
            self.start(every[at : at + 16], self.host_key, self.log)

    def keygen(self, name: str, kind: str = "ed25519", passphrase: str = "") -> Path:
        path = self.folder / name
        subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", name, "-f", str(path)], check=True)
        return path

    def known_line(self, name: str, key: Path | None = None, address: str | None = None) -> str:
        kind, blob = Path(f"{key or self.host_key}.pub").read_text().split()[:2]
        return f"[{address or self.addresses[name]}]:{self.port},[{name}]:{self.port} {kind} {blob}\n"

    def start(
        self, addresses: list[str], host_key: Path, log: Path, *, port: int | None = None, settings: str = ""
    ) -> int:
        """One more sshd; its pid."""
        port = port or self.port
        more = settings or self.settings or "MaxStartups 200"
        home = [] if "SetEnv" in more else [f"SetEnv HOME={self.folder}/home"]
        lines = [f"ListenAddress {a}:{port}" for a in addresses] + [
            f"HostKey {host_key}", f"AuthorizedKeysFile {self.folder}/authorized_keys", "PidFile none", "StrictModes no",
            "UsePAM no", "UseDNS no", "PrintMotd no", "PasswordAuthentication no", "KbdInteractiveAuthentication no",
            "PermitRootLogin yes", "LogLevel VERBOSE", *home, *more.splitlines(),
        ]  # fmt: skip
        config = log.with_suffix(f".{len(self._sshd)}.conf")
        config.write_text("\n".join(lines) + "\n")
        assert SSHD is not None
        server = subprocess.Popen(
            [*self.inside, SSHD, "-D", "-f", str(config), "-E", str(log)], stdin=subprocess.DEVNULL
        )
        self._sshd.append(server)
        for address in addresses:
            wait_for(lambda a=address: _listening(a, port), f"sshd on {address}:{port}")  # type: ignore[misc]
        return server.pid

    def host(self, name: str, **ssh: Any) -> Host:
        """The host as an inventory would give it; `address` and the fields of Ssh may be set."""
        address = ssh.pop("address", None) or self.addresses.get(name, name)
        settings: dict[str, Any] = {
            "user": getpass.getuser(), "port": self.port, "connect_timeout": 20.0, "identity_file": self.key,
            "known_hosts": self.known_hosts,
        }  # fmt: skip
        return Host(name=name, address=address, ssh=Ssh(**{**settings, **ssh}))

    def fleet(self, *hosts: Host) -> Fleet:
        found = hosts or tuple(map(self.host, self.names))
        return Fleet(source=None, site="test", hosts={h.name: h for h in found}, groups={})

    def logins(self, log: Path | None = None) -> int:
        return (log or self.log).read_text(errors="replace").count("Accepted publickey")

    def commands(self, log: Path | None = None) -> int:
        return (log or self.log).read_text(errors="replace").count("Starting session:")

    def broken(self, kind: str, **more: Any) -> Broken:
        made = Broken(kind, **more)
        self._closers.append(made.close)
        return made

    def proxy(self, to: str, **more: Any) -> Proxy:
        made = Proxy((self.addresses[to], self.port), **more)
        self._closers.append(made.close)
        return made

    def close(self) -> None:
        for close in self._closers:
            close()
        for server in self._sshd:
            server.terminate()
            server.wait(30)


@contextmanager
def farm(folder: Path, *names: str, **more: Any) -> Iterator[Farm]:
    made = Farm(folder, names or ("h1", "h2", "h3"), **more)
    try:
        yield made
    finally:
        made.close()


def _listening(address: str, port: int) -> bool:
    with socket.socket() as s:
        s.settimeout(1)
        return s.connect_ex((address, port)) == 0


class Broken:
    """`silent` accepts and says nothing; `kexstall` says its banner only; `garbage` speaks HTTP; `full` turns everybody away
    as an sshd over MaxStartups does; `blackhole` answers no SYN. `seen` counts connections, `held` are those it holds."""

    def __init__(self, kind: str, address: str = "127.0.0.1") -> None:
        self.kind, self.seen, self.held = kind, 0, []  # type: tuple[str, int, list[socket.socket]]
        self._sock = socket.socket()
        self._sock.bind((address, 0))
        self.port = int(self._sock.getsockname()[1])
        self._sock.listen(0 if kind == "blackhole" else 64)
        if kind == "blackhole":
            for _ in range(4):
                extra = socket.socket()
                extra.setblocking(False)
                extra.connect_ex((address, self.port))
                self.held.append(extra)
        else:
            threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        said = {
            "kexstall": b"SSH-2.0-OpenSSH_9.2\r\n",
            "garbage": b"HTTP/1.1 400 Bad Request\r\n\r\n<html>no ssh</html>\r\n" * 40,
            "full": b"Exceeded MaxStartups\r\n",
        }
        while True:
            try:
                conn, _ = self._sock.accept()
            except OSError:
                return
            self.seen += 1
            self.held.append(conn)
            with suppress(OSError):
                conn.sendall(said.get(self.kind, b""))
                if self.kind in ("garbage", "full"):
                    conn.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        for s in (self._sock, *self.held):
            _end(s)


class Proxy:
    """TCP in front of a real sshd. `mode`, changed at any time: pass; freeze (forward nothing, close nothing); cut. The first
    `turn_away` connections get the words of an sshd over MaxStartups."""

    def __init__(self, to: tuple[str, int], *, turn_away: int = 0, address: str = "127.0.0.1") -> None:
        self._to, self._turn_away, self.mode, self.seen, self._open = to, turn_away, "pass", 0, 0
        self._conns: list[socket.socket] = []
        self._sock = socket.socket()
        self._sock.bind((address, 0))
        self.port = int(self._sock.getsockname()[1])
        self._sock.listen(64)
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def open(self) -> int:
        """Connections that are being forwarded."""
        return self._open

    def _serve(self) -> None:
        while True:
            try:
                conn, _ = self._sock.accept()
            except OSError:
                return
            self.seen += 1
            self._conns.append(conn)
            if self.seen <= self._turn_away:
                with suppress(OSError):
                    conn.sendall(b"Exceeded MaxStartups\r\n")
                    conn.shutdown(socket.SHUT_WR)
                continue
            threading.Thread(target=self._pump, args=(conn,), daemon=True).start()

    def _pump(self, conn: socket.socket) -> None:
        self._open += 1
        try:
            far = socket.create_connection(self._to)
            self._conns.append(far)
            while self.mode != "cut":
                ready, _, _ = select.select([conn, far], [], [], 0.05)
                if self.mode == "freeze":
                    time.sleep(0.02)
                    continue
                for s in ready:
                    data = s.recv(65536)
                    if not data:
                        return
                    (far if s is conn else conn).sendall(data)
        except (OSError, ValueError):
            pass
        finally:
            _end(conn)
            with suppress(UnboundLocalError):
                _end(far)
            self._open -= 1

    def close(self) -> None:
        self.mode = "cut"
        for s in (self._sock, *self._conns):
            _end(s)


def _end(s: socket.socket) -> None:
    with suppress(OSError):
        s.shutdown(socket.SHUT_RDWR)
    s.close()
