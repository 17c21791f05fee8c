"""The connections to hosts: one login a host for a whole command, whoever asks, with our rules about keys and time.

    Transport.open(host) -> Session.run(text, timeout=…) -> Ran

Fabric resolves (ssh_config, user, port, jump host) and opens over the client and the stream we hand it. Ours are the
client, which lets in known keys only (`bbctl.ssh.login`), and the running of commands (`bbctl.ssh.session`).
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from bbctl.errors import ConfigError
from bbctl.model import Fleet, Host, Ran, Ssh
from bbctl.ssh.dial import Ahead, NotLoggedIn, Wire, connect
from bbctl.ssh.jump import last_hop
from bbctl.ssh.knownhosts import KnownHosts, files
from bbctl.ssh.lean import fabric, paramiko
from bbctl.ssh.login import STARTUPS, Client, Offer, Shown, agent_keys, agent_said, read_key
from bbctl.ssh.session import Session

__all__ = ["NotLoggedIn", "Session", "Shown", "Transport"]


class _Connection(fabric.Connection):  # type: ignore[misc]
    """Fabric's connection. The attribute keeps its constructor from writing to the shared settings, which no lock guards;
    with it all that is ever set is an attribute of the class, and need not be looked for among the settings first."""

    inline_ssh_env = True
    __setattr__ = object.__setattr__


class _Nothing(paramiko.SSHConfig):
    """The ssh_config of an inventory that names none: no line of it fits any host."""

    def lookup(self, hostname: str) -> paramiko.SSHConfigDict:
        return paramiko.SSHConfigDict(hostname=hostname)


class _Settings(fabric.Config):  # type: ignore[misc]
    """Fabric's settings. It looks for these two on every access, and a miss costs it a list of all its attributes."""

    _keypath: tuple[str, ...] = ()

    @property
    def _root(self) -> _Settings:
        return self


class Transport:
    """All connections of one command; files (known hosts, keys, ssh_config) are read once. Close it at the end.

    `ahead`: connections that were begun already; closed with the rest.
    """

    def __init__(self, fleet: Fleet, *, ahead: Ahead | None = None, now: Callable[[], float] = time.monotonic) -> None:
        self._fleet = fleet
        self._ahead = ahead
        self._now = now
        self.stop = threading.Event()  # set: whatever is being asked ends at once, but for what says `cancel` itself
        self._abandoned = False
        self._lock = threading.Lock()
        self._opening: dict[str, threading.Lock] = {}
        self._sessions: dict[str, Session] = {}
        self._known: dict[Path | None, KnownHosts] = {}
        self._keys: dict[Path, paramiko.PKey] = {}
        self._configs: dict[Path | None, fabric.Config] = {}

    def __enter__(self) -> Transport:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self, host: Host, *, within: float | None = None) -> Session:
        """The host's session: the one that is open, or a new login, within `connect_timeout` or `within` seconds, whichever
        is less. Raises NotLoggedIn."""
        with self._lock:
            mine = self._opening.setdefault(host.name, threading.Lock())
        with mine:
            if self._abandoned:
                raise NotLoggedIn("unreachable", "interrupted", stage="connect")
            session = self._sessions.get(host.name)
            if session is None or not session.alive:
                limit = min(host.ssh.connect_timeout, host.ssh.connect_timeout if within is None else within)
                session = self._login(host, self._now() + limit)
                self._sessions[host.name] = session
            return session

    def ping(self, host: Host) -> Ran:
        """Log in, as a Ran: ok, or the status of the login that failed."""
        began = self._now()
        try:
            self.open(host)
        except NotLoggedIn as error:
            return _refused(host, error, self._now() - began)
        return Ran(host=host.name, status="ok", seconds=self._now() - began)

    def run(self, host: Host, command: str, *, timeout: float, **options: Any) -> Ran:
        """Open and run, in `timeout` seconds in all; a login that fails is a Ran with its status. Options: Session.run's."""
        began = self._now()
        try:
            session = self.open(host, within=timeout)
        except NotLoggedIn as error:
            return _refused(host, error, self._now() - began)
        ran = session.run(command, timeout=max(0.0, timeout - (self._now() - began)), **options)
        return replace(ran, seconds=self._now() - began)

    def host_key(self, host: Host) -> Shown:
        """The key that the host shows now, and what we know of it. Nothing is logged in to. Raises NotLoggedIn."""
        connection, wire = self._dial(host, self._now() + host.ssh.connect_timeout)
        client: Client = connection.client
        try:
            client.exchange(wire)
            return client.shown()
        finally:
            client.close()
            wire.close()

    def forget(self, host: Host) -> None:
        """Close the host's session, if there is one: for commands that visit many hosts once."""
        session = self._sessions.pop(host.name, None)
        if session is not None:
            session.close()

    def abandon(self) -> None:
        """Close, and log in nowhere any more: whoever waits for a host that is silent is told at once."""
        self._abandoned = True
        self.close()

    def close(self) -> None:
        for session in list(self._sessions.values()):
            session.close()
        self._sessions.clear()
        if self._ahead:
            self._ahead.close()

    def _login(self, host: Host, deadline: float) -> Session:
        while True:
            connection, wire = self._dial(host, deadline)
            connection.connect_kwargs = {**connection.connect_kwargs, "sock": wire}
            try:
                connection.open()
            except BaseException as error:
                connection.client.close()
                wire.close()
                pause = random.uniform(0.05, 0.4)
                # sshd turns away the newest of too many at once and says so: nothing else is tried again.
                if not (isinstance(error, NotLoggedIn) and STARTUPS in wire.first and self._now() + pause < deadline):
                    raise
                time.sleep(pause)
            else:
                return Session(host, connection.transport, wire, self._now, stop=self.stop)

    def _dial(self, host: Host, deadline: float) -> tuple[fabric.Connection, Wire]:
        """Fabric's connection with our client, and the stream to open it over."""
        ssh = host.ssh
        port = ssh.port if ssh.port != 22 else None  # the default gives way to ssh_config
        settings = self._config(ssh)
        connection = _Connection(
            host.name, ssh.user, port, settings, gateway=False, forward_agent=False, connect_kwargs={}
        )
        if host.address != host.name:
            connection.host = host.address
        if "proxycommand" in connection.ssh_config:
            raise ConfigError(f"{ssh.config}: ProxyCommand is not used, name a ProxyJump", next="bbctl config check")
        address, port = str(connection.host), int(connection.port)
        named = tuple(Path(name).expanduser() for name in connection.connect_kwargs.pop("key_filename", ()))
        connection.client = Client(
            host,
            address,
            port,
            known=self._known_hosts(ssh),
            keys=lambda: self._offers(ssh, named),
            deadline=deadline,
            now=self._now,
        )
        jump = ssh.jump or connection.ssh_config.get("proxyjump")
        if jump and jump != "none":
            return connection, self._through(host, jump, address, port, deadline)
        return connection, connect(address, port, deadline, self._now, self._ahead)

    def _through(self, host: Host, jump: str, address: str, port: int, deadline: float) -> Wire:
        """A stream through the last of the jump hosts, each logged in to with its own key checks."""
        via = last_hop(self._fleet, host, jump)
        if via is None:
            return connect(address, port, deadline, self._now)
        try:
            session = self.open(via, within=deadline - self._now())
            return Wire(session.tunnel(address, port, timeout=max(0.1, deadline - self._now())), self._now)
        except NotLoggedIn as error:
            said = f"jump host {via.name}: {error.message}"
            raise NotLoggedIn(error.status, said, fingerprint=error.fingerprint, next=error.next) from error
        except OSError as error:
            raise NotLoggedIn("unreachable", f"through {via.name}: {error}", stage="connect") from error

    def _known_hosts(self, ssh: Ssh) -> KnownHosts:
        with self._lock:
            if ssh.known_hosts not in self._known:
                self._known[ssh.known_hosts] = KnownHosts.read(files(ssh.known_hosts))
            return self._known[ssh.known_hosts]

    def _config(self, ssh: Ssh) -> fabric.Config:
        """Fabric's settings without its files and environment; ssh_config only where the inventory names one."""
        with self._lock:
            if ssh.config not in self._configs:
                try:
                    read = paramiko.SSHConfig.from_path(str(ssh.config)) if ssh.config else _Nothing()
                except (OSError, paramiko.ConfigParseError) as error:
                    raise ConfigError(f"{ssh.config}: {error}", next="bbctl config check") from error
                self._configs[ssh.config] = _Settings(lazy=True, ssh_config=read)
            return self._configs[ssh.config]

    @contextmanager
    def _offers(self, ssh: Ssh, config: tuple[Path, ...]) -> Iterator[Sequence[Offer]]:
        """The keys to offer, each once: the one that is named, else the agent's and the usual files."""
        if named := [ssh.identity_file] if ssh.identity_file else list(config):
            yield [(str(path), self._key(path)) for path in named]
            return
        with agent_keys() as found:
            usual, unusable = self._usual()
            held = {key.asbytes() for _, key in found}
            offers = [*found, *(offer for offer in usual if offer[1].asbytes() not in held)]
            if not offers:
                said = "; ".join(["there is no key to offer", agent_said(), *unusable])
                raise NotLoggedIn("auth-failed", said, next="ssh-add -l")
            yield offers

    def _usual(self) -> tuple[list[Offer], list[str]]:
        """The keys in the usual files, and why those that are there are none."""
        usual: list[Offer] = []
        unusable: list[str] = []
        for kind in ("ed25519", "ecdsa", "rsa"):
            with suppress(RuntimeError):  # no home at all
                path = Path(f"~/.ssh/id_{kind}").expanduser()
                try:
                    usual.append((str(path), self._key(path)))
                except NotLoggedIn as error:
                    unusable += [] if isinstance(error.__cause__, FileNotFoundError) else [error.message]
        return usual, unusable

    def _key(self, path: Path) -> paramiko.PKey:
        with self._lock:
            if path not in self._keys:
                self._keys[path] = read_key(path)
            return self._keys[path]


def _refused(host: Host, error: NotLoggedIn, seconds: float) -> Ran:
    return Ran(host=host.name, status=error.status, error=error.message, next=error.next, seconds=seconds)
