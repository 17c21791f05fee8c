"""Out of the VIP, and back in: carried out on the host, on HAProxy's socket, or by the site's own command.

What changes something takes `act`: it runs a shell text on the host only while the run holds the host's lock, and raises
where it does not. A `file` drain runs through it; for the other kinds the lock is proven by it right before.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from bbctl.errors import Failed
from bbctl.model import Drain, Host, Ran
from bbctl.remote import vip
from bbctl.remote.shell import script
from bbctl.remote.vip import Place
from bbctl.ssh.transport import NotLoggedIn, Transport

Act = Callable[[str], Ran]
MOMENT = 10.0  # seconds for a thing of a moment on a host
SOCKET = 5.0  # seconds for HAProxy to answer
SERVING = 15.0  # seconds, at least, for HAProxy to find a host up again
LOOK = 0.2


@dataclass(frozen=True, kw_only=True)
class Gate:
    """One host's way out of and into its VIP. `hosts`: the inventory's, to find HAProxy's host by its name."""

    transport: Transport
    hosts: Mapping[str, Host]
    host: Host
    drain: Drain

    def place(self, haproxy: Callable[[str], str] | None = None) -> Place:
        """Where the host stands now. Never raises: what cannot be learned is `unknown` with the cause.

        `haproxy`: who asks it in place of us, for a look at many hosts behind one.
        """
        try:
            match self.drain.kind:
                case "file":
                    path = self.drain.path or ""
                    ran = self.transport.run(self.host, script(f"exec 2>&1\n{vip.file_state(path)}"), timeout=MOMENT)
                    return (
                        vip.understand_file(ran.stdout, path) if ran.exit is not None else vip.unknown(ran.error or "")
                    )
                case "haproxy":
                    answer = (haproxy or self.haproxy)(vip.HAPROXY_STATES)
                    return vip.place_of(answer, self.drain.backend or "", self.drain.server or "")
                case "command":
                    return vip.understand_command(*_here(self.drain.state, MOMENT))
        except (ValueError, OSError, NotLoggedIn) as error:
            return vip.unknown(str(error))

    def leave(self, act: Act | None = None) -> Place:
        """Take the host out, and see that it is. Raises Failed (it is as it was, or unknown) and what `act` raises."""
        return self._move("out", act)

    def enter(self, act: Act | None = None) -> Place:
        """Put the host back in, and see that it is; HAProxy must find it up. Raises as `leave`."""
        return self._move("in", act)

    def settle(self, wait: Callable[[float], object] = time.sleep) -> str:
        """After `leave`: wait until nothing is left on the host, at most `settle`. HAProxy knows its sessions, the other
        kinds know only the time. Gives a word for the record, with what was left."""
        began = time.monotonic()
        if self.drain.kind != "haproxy":
            wait(self.drain.settle)
            return f"waited {self.drain.settle:g}s"
        while True:
            place, spent = self.place(), time.monotonic() - began
            if place.sessions == 0:
                return f"0 sessions after {spent:.1f}s"
            if spent >= self.drain.settle:
                left = "an unknown number of" if place.sessions is None else str(place.sessions)
                return f"{left} sessions left after {spent:.1f}s"
            wait(min(LOOK, self.drain.settle - spent))

    def command(self, way: Literal["out", "in"]) -> str:
        """What `leave` or `enter` will run, for people: a dry run shows it."""
        d = self.drain
        if d.kind == "file":
            return f"rm -f -- {d.path}" if way == "out" else f": > {d.path}"
        if d.kind == "haproxy":
            words = vip.haproxy_set(d.backend or "", d.server or "", "drain" if way == "out" else "ready")
            return f"{words}  (on {d.socket}{f' of {d.host}' if d.host else ''})"
        return " ".join(d.out if way == "out" else d.in_)

    # -- how

    def _move(self, way: Literal["out", "in"], act: Act | None) -> Place:
        try:
            if self.drain.kind == "file":
                place = self._file(way, act)
            else:
                self._prove(act)
                place = self._haproxy_move(way) if self.drain.kind == "haproxy" else self._command(way)
        except (ValueError, OSError, NotLoggedIn) as error:
            place = vip.unknown(str(error))
        if place.state != way:
            raise Failed(
                f"{self.host.name} could not be {'taken out of' if way == 'out' else 'put into'} the VIP: "
                f"{place.error or f'it is still {place.state}'}",
                code="drain-failed" if way == "out" else "undrain-failed",
                next=f"bbctl status {self.host.short}",
            )
        return place

    def _file(self, way: Literal["out", "in"], act: Act | None) -> Place:
        path = self.drain.path or ""
        text = vip.file_out(path) if way == "out" else vip.file_in(path)
        ran = (act or self._bare)(text)
        if ran.status != "ok":
            return vip.unknown(ran.err.strip() or ran.error or "it failed")
        return vip.understand_file(ran.stdout, path)

    def _prove(self, act: Act | None) -> None:
        if act is not None and (ran := act(":")).status != "ok":
            raise ValueError(f"the lock could not be proven: {ran.error}")

    def _bare(self, text: str) -> Ran:
        return self.transport.run(self.host, script(text), timeout=MOMENT)

    def _haproxy_move(self, way: Literal["out", "in"]) -> Place:
        backend, server = self.drain.backend or "", self.drain.server or ""
        words = vip.haproxy_set(backend, server, "drain" if way == "out" else "ready")
        if said := vip.understand_set(self.haproxy(words)):
            raise ValueError(f"HAProxy says: {said[:160]}")
        until = time.monotonic() + max(self.drain.settle, SERVING)
        while True:
            place = vip.place_of(self.haproxy(vip.HAPROXY_STATES), backend, server)
            if way == "out" or place.state != "in" or place.serving:
                return place
            if time.monotonic() >= until:
                return vip.unknown(f"HAProxy does not find {backend}/{server} up")
            time.sleep(LOOK)

    def _command(self, way: Literal["out", "in"]) -> Place:
        words = self.drain.out if way == "out" else self.drain.in_
        code, out, err = _here(words, max(self.drain.settle, 30.0))
        if code != 0:
            said = (err or out).decode("utf-8", "replace").strip()[-160:]
            how = "did not end in time" if code is None else f"ended with {code}"
            return vip.unknown(f"{words[0] if words else 'no command'} {how}" + (f": {said}" if said else ""))
        return self.place() if self.drain.state else Place(state=way, serving=way == "in")

    def haproxy(self, words: str) -> str:
        """HAProxy's answer to these words. Raises ValueError or OSError with the cause."""
        path = self.drain.socket or ""
        if self.drain.host is None:
            return _ask_here(path, words)
        where = self.hosts.get(self.drain.host)
        if where is None:
            raise ValueError(f"HAProxy's host {self.drain.host} is not in the inventory")
        ran = self.transport.run(where, script(vip.haproxy_ask(path, words)), timeout=SOCKET + MOMENT)
        if ran.exit is None:
            raise ValueError(f"HAProxy's host {where.name}: {ran.error}")
        return vip.understand_asked(ran.stdout, ran.stderr)


def _ask_here(path: str, words: str) -> str:
    """Speak to HAProxy's socket on this machine. Raises ValueError where it does not answer within 5 s."""
    deadline = time.monotonic() + SOCKET
    data = b""
    try:
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(SOCKET)
            s.connect(path)
            s.sendall(words.encode() + b"\n")
            while len(data) < 16 << 20:
                s.settimeout(max(0.01, deadline - time.monotonic()))
                piece = s.recv(65536)
                if not piece:
                    return data.decode("utf-8", "replace")
                data += piece
    except TimeoutError:
        raise ValueError(f"HAProxy did not answer on {path} within {SOCKET:g} s") from None
    except OSError as error:
        raise ValueError(f"HAProxy's socket {path}: {error.strerror or error}") from None
    raise ValueError(f"what answers on {path} does not end")


def _here(words: Sequence[str], seconds: float) -> tuple[int | None, bytes, bytes]:
    """Run a command of the inventory on this machine: exit (None: ended by us, its group with it), stdout, stderr."""
    if not words:
        return 127, b"", b"the inventory names no such command"
    try:
        ran = subprocess.Popen(
            list(words),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        return 127, b"", f"{words[0]}: {error.strerror}".encode()
    try:
        out, err = ran.communicate(timeout=seconds)
        return ran.returncode, out, err
    except subprocess.TimeoutExpired:
        os.killpg(ran.pid, signal.SIGKILL)
        out, err = ran.communicate()
        return None, out, err
