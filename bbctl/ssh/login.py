"""A login over a connected stream: banner, key exchange, a host key that we know, a key of ours that it takes.

    Client.exchange(wire), Client.shown(), then the login; Client.connect does all three

Every step ends by the client's deadline and says which stage failed. Nothing is sent to a host before its key is proven.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paramiko
from paramiko.common import MSG_CHANNEL_REQUEST, cMSG_GLOBAL_REQUEST
from paramiko.message import Message
from paramiko.packet import Packetizer
from paramiko.ssh_exception import PartialAuthentication

from bbctl.model import Host
from bbctl.ssh.dial import NotLoggedIn, Stage, Wire
from bbctl.ssh.knownhosts import HostKey, KnownHosts, Verdict, names

logging.getLogger("paramiko").setLevel(logging.CRITICAL + 1)  # its tracebacks are not for users; we say what happened

KEEPALIVE = 5.0  # seconds of silence after which the peer is asked whether it is there
IDLE = 1.0  # seconds between two looks of an idle connection at its state
STARTUPS = b"Exceeded MaxStartups"

Offer = tuple[str, paramiko.PKey]  # where a key is from, and the key

# What known_hosts calls a key, and the algorithms that prove one (RFC 8332: never SHA-1).
_PROOFS = {
    "ssh-ed25519": ("ssh-ed25519",),
    "ecdsa-sha2-nistp256": ("ecdsa-sha2-nistp256",),
    "ecdsa-sha2-nistp384": ("ecdsa-sha2-nistp384",),
    "ecdsa-sha2-nistp521": ("ecdsa-sha2-nistp521",),
    "ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256"),
}


class _Packets(Packetizer):
    def start_handshake(self, timeout: float) -> None:
        """No timer, and so no thread, of its own: Client.exchange keeps the deadline."""


def _note_signal(channel: paramiko.Channel, message: Message) -> None:
    """Keep what the library drops: the signal that ended a command (RFC 4254, 6.10)."""
    look = Message(message.get_remainder())
    if look.get_text() == "exit-signal":
        look.get_boolean()
        protocol = channel.transport
        if isinstance(protocol, Protocol):
            protocol.signals[channel.get_id()] = look.get_text()
    channel._handle_request(message)  # type: ignore[attr-defined]


class Protocol(paramiko.Transport):
    """The SSH protocol with AES-GCM and curve25519 first (cheapest here), and without SHA-1, MD5, CBC and 3DES."""

    _preferred_ciphers = (
        "aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr", "aes192-ctr", "aes256-ctr",
    )  # fmt: skip
    _preferred_macs = (
        "hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com", "hmac-sha2-256", "hmac-sha2-512",
    )  # fmt: skip
    _preferred_kex = (
        "curve25519-sha256@libssh.org", "ecdh-sha2-nistp256", "ecdh-sha2-nistp384", "ecdh-sha2-nistp521",
        "diffie-hellman-group16-sha512", "diffie-hellman-group-exchange-sha256", "diffie-hellman-group14-sha256",
    )  # fmt: skip
    _active_check_timeout = IDLE

    def __init__(self, wire: Wire) -> None:
        super().__init__(wire, packetizer_class=_Packets)  # type: ignore[arg-type]
        self.signals: dict[int, str] = {}
        handlers: dict[int, Any] = paramiko.Transport._channel_handler_table  # type: ignore[attr-defined]
        self._channel_handler_table = {**handlers, MSG_CHANNEL_REQUEST: _note_signal}

    def _log(self, level: int, msg: object, *args: object) -> None:
        """Nothing: what happened is in our errors."""

    def _parse_debug(self, message: Message) -> None:
        """Nothing: sshd says which line of authorized_keys fitted."""

    def _filter_algorithm(self, kind: str) -> tuple[str, ...]:
        """What we prefer is what we take: nothing is disabled apart from it, so there is nothing to filter, 16 times a login."""
        preferred: tuple[str, ...] = getattr(self, f"_preferred_{kind}")
        return preferred

    def keep_alive(self) -> None:
        """Ask a silent peer for an answer, so that `Wire.heard` tells a living peer from a dead one."""
        self.packetizer.set_keepalive(KEEPALIVE, self._ask)

    def _ask(self) -> None:
        message = Message()
        message.add_byte(cMSG_GLOBAL_REQUEST)
        message.add_string("keepalive@openssh.com")
        message.add_boolean(True)
        self.send_soon(message)

    def send_soon(self, message: Message) -> None:
        """Send, after a key renegotiation that may be going on."""
        self._send_user_message(message)  # type: ignore[attr-defined]


@dataclass(frozen=True, kw_only=True)
class Shown:
    """The key that a host showed and proved to have; under which names it is looked up; what is stored there."""

    key: HostKey
    names: tuple[str, ...]
    stored: tuple[HostKey, ...]
    verdict: Verdict


class Client(paramiko.SSHClient):
    """One login. `address` and `port` are where the host is; `keys` opens what to offer."""

    def __init__(
        self,
        host: Host,
        address: str,
        port: int,
        *,
        known: KnownHosts,
        keys: Callable[[], AbstractContextManager[Sequence[Offer]]],
        deadline: float,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._host, self._address, self._port = host, address, port
        self._names = names(address, host.name, port)
        self._known, self._keys = known, keys
        self._deadline, self._now, self._limit = deadline, now, round(deadline - now(), 1)
        self._protocol: Protocol | None = None

    def connect(self, hostname: str, port: int = 22, username: str | None = None, **how: Any) -> None:  # type: ignore[override]
        """What Fabric calls; of `how` only `sock` counts, the rest is settled. Raises NotLoggedIn."""
        wire: Wire = how["sock"]
        self.exchange(wire)
        shown = self.shown()
        if shown.verdict != "known":
            raise _refusal(self._host.name, shown)
        self._authenticate(username or self._host.ssh.user)

    def exchange(self, wire: Wire) -> None:
        """Banner and key exchange. Raises NotLoggedIn (banner, key exchange)."""
        protocol = self._protocol = Protocol(wire)
        self._transport = protocol
        proofs = protocol.get_security_options()
        kinds = [key.kind for key in self._known.keys(self._names)]
        stored = [proof for kind in dict.fromkeys(kinds) for proof in _PROOFS.get(kind, ())]
        # The kinds we know come first: a host has several keys, and an unknown one proves nothing.
        proofs.key_types = [*stored, *(proof for proof in proofs.key_types if proof not in stored)]
        done = threading.Event()
        protocol.start_client(event=done)
        done.wait(max(0.0, self._deadline - self._now()))
        if not (done.is_set() and protocol.is_active()):
            raise self._not_exchanged(protocol, wire, done.is_set())

    def shown(self) -> Shown:
        """What the key exchange proved."""
        assert self._protocol is not None
        proven = self._protocol.get_remote_server_key()
        key = HostKey(proven.get_name(), proven.asbytes())
        stored, verdict = self._known.keys(self._names), self._known.verdict(self._names, key)
        return Shown(key=key, names=self._names, stored=stored, verdict=verdict)

    def _not_exchanged(self, protocol: Protocol, wire: Wire, ended: bool) -> NotLoggedIn:
        stage: Stage = "key exchange" if protocol.remote_version.startswith("SSH-") else "banner"
        if STARTUPS in wire.first:
            cause = "the server turns logins away for now: Exceeded MaxStartups"
        elif not ended:
            cause = f"no answer within {self._limit:g}s"
        elif stage == "banner" and wire.first:
            cause = f"no SSH server, it says {wire.first.splitlines()[0][:60].decode('utf-8', 'replace')!r}"
        else:
            error = protocol.get_exception()
            said = str(error) if stage == "key exchange" and error else ""
            cause = said or "the connection was closed"
        return NotLoggedIn("unreachable", cause, stage=stage)

    def _authenticate(self, user: str) -> None:
        protocol = self._protocol
        assert protocol is not None
        offered: list[str] = []
        cause = ""
        with self._keys() as keys:
            for source, key in keys:
                offered.append(source)
                cause = self._offer(protocol, user, key)
                if protocol.is_authenticated() or not protocol.is_active():
                    break
        if not protocol.is_authenticated():
            if len(offered) > 1 and not protocol.is_active():
                cause = (
                    f"too many keys, the server took {len(offered)} and closed the connection: name an identity_file"
                )
            said = f"{user}: {cause} (offered {', '.join(offered)})"
            raise NotLoggedIn("auth-failed", said, next=f"ssh -v {user}@{self._address} -p {self._port}")
        protocol.keep_alive()

    def _offer(self, protocol: Protocol, user: str, key: paramiko.PKey) -> str:
        """Offer one key, once; why it was not enough."""
        answered = threading.Event()
        try:
            protocol.auth_publickey(user, key, event=answered)
        except (paramiko.SSHException, EOFError, OSError):
            return "the server closed the connection"
        if protocol.is_active() and not answered.wait(max(0.0, self._deadline - self._now())):
            return f"no answer to our key within {self._limit:g}s"
        error = protocol.get_exception()
        if not protocol.is_active():
            return "the server closed the connection"
        if isinstance(error, PartialAuthentication):
            return "the server wants more than a key"
        if isinstance(error, paramiko.BadAuthenticationType):
            wants = ", ".join(error.allowed_types)
            return "the server takes no keys" + (f", it wants {wants}" if wants else " and nothing else")
        return "permission denied"


def _refusal(name: str, shown: Shown) -> NotLoggedIn:
    shows = f"{name} shows {shown.key.kind} {shown.key.fingerprint}"
    known = ", ".join(key.fingerprint for key in shown.stored)
    changed = f"host key changed: {shows}, known is {known}: a new machine, or somebody in between"
    said, way = {
        "unknown": (f"host key unknown: {shows}", f"bbctl hosts trust {name}"),
        "changed": (changed, f"bbctl hosts trust {name} --replace   once you know why it changed"),
        "revoked": (f"host key revoked: {shows}, which known_hosts marks @revoked", f"ssh-keygen -F {shown.names[0]}"),
    }[shown.verdict]
    return NotLoggedIn("host-key", said, fingerprint=shown.key.fingerprint, next=way)


def read_key(path: Path) -> paramiko.PKey:
    """A private key file. Raises NotLoggedIn (auth-failed) where it is missing, unreadable, or needs a passphrase."""
    try:
        return paramiko.PKey.from_path(path)
    except FileNotFoundError as error:
        raise NotLoggedIn("auth-failed", f"{path}: there is no such key file", next="bbctl config check") from error
    except OSError as error:
        raise NotLoggedIn("auth-failed", f"{path}: {error.strerror}", next=f"ls -l {path}") from error
    except (ValueError, TypeError, paramiko.SSHException) as error:
        if any(word in str(error).lower() for word in ("password", "passphrase", "encrypted")):
            raise NotLoggedIn(
                "auth-failed",
                f"{path}: the key has a passphrase: load it into an agent and name no identity_file",
                next=f"ssh-add {path}",
            ) from error
        raise NotLoggedIn(
            "auth-failed", f"{path}: no private key that we can read", next=f"ssh-keygen -y -f {path}"
        ) from error


def agent_said() -> str:
    """Why the agent gave no key."""
    socket = os.environ.get("SSH_AUTH_SOCK")
    return f"the agent at {socket} gave none" if socket else "no agent is named in SSH_AUTH_SOCK"


@contextmanager
def agent_keys() -> Iterator[Sequence[Offer]]:
    """The keys of the user's agent, usable while it is open; none where there is no agent."""
    agent = None
    try:
        if not Path(os.environ.get("SSH_AUTH_SOCK", "")).is_socket():
            raise FileNotFoundError
        agent = paramiko.Agent()
        found = [(f"{key.comment or 'a key'} of the agent", key) for key in agent.get_keys()]
    except (paramiko.SSHException, OSError):
        found = []
    try:
        yield found
    finally:
        if agent is not None:
            agent.close()
