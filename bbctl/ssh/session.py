"""Commands over one login: started, followed on both streams at once with bounded memory, and ended, whatever the host does.

A command ends by itself, by its deadline, by a cancel, or with the connection. Each is a word in its Ran; nothing raises.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from typing import Any, Literal

import paramiko
from paramiko.common import cMSG_CHANNEL_REQUEST
from paramiko.message import Message

from bbctl.errors import Failed
from bbctl.model import Host, Ran
from bbctl.remote import shell
from bbctl.ssh.dial import DEAD_PEER, Wire
from bbctl.ssh.login import Protocol

CHANNELS = 8  # at once over one connection; OpenSSH's MaxSessions is 10
QUIET = 2.0  # after the exit code: how long a stream that something left open may be silent before we stop reading
ENDING = 2.5  # how long the remote guard may take to end a command; it gives TERM one second
LOOK = 0.2  # how often a wait looks whether it was cancelled
PACE = 0.02  # of a command that runs for long: how often its output is read, in gulps; a wake-up a line costs more
ROUND = 1.0  # how often a wait looks whether the peer still lives
NEVER = threading.Event()  # the `cancel` of what is to end by itself

End = Literal["ended", "timeout", "interrupted", "lost"]
OnOutput = Callable[[Literal["out", "err"], bytes], None]


class Session:
    """One login to one host, good for many commands, also at once. Made by Transport.open; ends with close, or when lost."""

    def __init__(
        self, host: Host, protocol: Protocol, wire: Wire, now: Callable[[], float] = time.monotonic,
        *, stop: threading.Event | None = None,
    ) -> None:  # fmt: skip
        self.host = host
        self._stopped = stop
        self._transport = protocol
        self._wire = wire
        self._now = now
        self._slots = threading.BoundedSemaphore(CHANNELS)
        self._opening = threading.Lock()
        self._lock = threading.Lock()
        self._busy = 0
        self._mark = secrets.token_hex(8)

    @property
    def alive(self) -> bool:
        return bool(self._transport.is_active())

    def close(self) -> None:
        self._transport.close()

    def run(
        self,
        command: str,
        *,
        timeout: float,
        stdin: bytes = b"",
        keep: int = 64 << 20,
        on_output: OnOutput | None = None,
        guard: bool = False,
        cancel: threading.Event | None = None,
    ) -> Ran:
        """Run shell text and give its end: ok, failed, timeout or interrupted; a lost connection is failed without exit.

        `timeout` is seconds from now to the end. `keep` is how many bytes of output are kept (`cut` counts the rest);
        `on_output` gets all of them as they come. `guard` ends the command's process group on the host when the deadline
        passes, `cancel` (the transport's `stop`, where none is given) is set or the connection dies; it leaves no room for
        `stdin`. Raises UsageError for a text that no
        host can take, Failed where `on_output` cannot keep what it gets.
        """
        if guard and stdin:
            raise ValueError("a guarded command has no stdin")
        began = self._now()
        deadline = began + timeout
        cancel = self._stopped if cancel is None else cancel
        whole, data = shell.guarded(command, timeout + ENDING) if guard else (command, "")
        text = shell.encoded(shell.announced(whole, self._mark))
        given = _Given(shell.encoded(data) or stdin, last=not guard)
        border = _Border(self._mark)
        kept = _Kept(keep, on_output, border)
        try:
            with self._channel(deadline) as channel:
                wake = _Wake.on(channel)
                self._start(channel, text)
                end = self._follow(channel, wake, kept, given, deadline, cancel)
                # Of a text that has not gone whole nothing runs: the end of the channel is the end of its shell.
                begun = guard and not given.left
                gone = end not in ("timeout", "interrupted") or not begun or self._stop(channel, wake)
                signal = self._transport.signals.pop(channel.get_id(), None)
                told = _told(end, channel.exit_status, signal, timeout, self.alive, border)
                if not gone and border.crossed:
                    told["error"] += "; the host does not answer, its guard ends the command there"
        except TimeoutError:
            told = {"status": "timeout", "error": f"no end within {timeout:.3g}s: no channel could be opened"}
        except (paramiko.SSHException, EOFError, OSError) as error:
            told = {"status": "failed", "error": f"connection lost: {_said(error)}"}
        return kept.ran(self.host.name, self._now() - began, told)

    def tunnel(self, address: str, port: int, *, timeout: float) -> paramiko.Channel:
        """A socket to `address` as the host sees it; `timeout` holds for opening it and for each read.

        Raises TimeoutError, PermissionError where the server forbids forwarding, else ConnectionError.
        """
        where = f"{address} port {port}"
        try:
            channel = self._ask_for("direct-tcpip", self._now() + timeout, (address, port))
        except paramiko.ChannelException as error:
            kind = PermissionError if error.code == 1 else ConnectionRefusedError
            raise kind(f"{where}: {error.text.lower()}") from error
        except TimeoutError as error:
            raise TimeoutError(f"{where}: no answer within {timeout:.3g}s") from error
        except (paramiko.SSHException, EOFError) as error:
            raise ConnectionError(f"{where}: connection lost: {_said(error)}") from error
        channel.settimeout(timeout)
        return channel

    def _ask_for(self, kind: str, deadline: float, to: tuple[str, int] | None = None) -> paramiko.Channel:
        """A new channel. Raises TimeoutError at the deadline, ChannelException where the host refuses it.

        One at a time: the library keeps one error for all that ask at once.
        """
        if not self._opening.acquire(timeout=max(0.0, deadline - self._now())):
            raise TimeoutError
        try:
            left = max(0.0, deadline - self._now())
            return self._transport.open_channel(kind, to, ("127.0.0.1", 0) if to else None, timeout=left)
        except paramiko.ChannelException:
            raise
        except paramiko.SSHException as error:
            if "Timeout" in str(error):
                raise TimeoutError from error
            raise
        finally:
            self._opening.release()

    @contextmanager
    def _channel(self, deadline: float) -> Iterator[paramiko.Channel]:
        """A channel of our own, closed at the end. Raises TimeoutError at the deadline, SSHException where refused."""
        if not self._slots.acquire(timeout=max(0.0, deadline - self._now())):
            raise TimeoutError
        self._count(1)
        try:
            channel = self._open_channel(deadline)
            try:
                yield channel
            finally:
                with suppress(paramiko.SSHException, EOFError, OSError):
                    channel.close()
        finally:
            self._count(-1)
            self._slots.release()

    def _count(self, change: int) -> None:
        with self._lock:
            self._busy += change

    def _open_channel(self, deadline: float) -> paramiko.Channel:
        while True:
            try:
                return self._ask_for("session", deadline)
            except paramiko.ChannelException:
                # A MaxSessions below ours: another of our commands will make room; without one nobody will.
                if self._busy < 2 or self._now() > deadline:
                    raise
                time.sleep(LOOK)

    def _start(self, channel: paramiko.Channel, text: bytes) -> None:
        """Ask for the command without waiting for the answer, for which the library knows no deadline: a refusal closes
        the channel, and that the loop sees."""
        message = Message()
        message.add_byte(cMSG_CHANNEL_REQUEST)
        message.add_int(channel.remote_chanid)
        message.add_string("exec")
        message.add_boolean(True)
        message.add_string(text)
        self._transport.send_soon(message)

    def _follow(
        self,
        channel: paramiko.Channel,
        wake: _Wake,
        kept: _Kept,
        given: _Given,
        deadline: float,
        cancel: threading.Event | None,
    ) -> End:
        """The one loop: both streams in as they come, stdin out as there is room, until an end of some kind."""
        began = heard = looked = self._now()
        given.to(channel)
        while True:
            wake.rearm()
            closed = channel.closed  # asked before reading: what came before the close is then read below
            now = self._now()
            moved = kept.take(channel)
            if moved:
                heard = now
            if closed:
                return "ended"
            if (
                now - looked > 2 * ROUND
            ):  # we were stopped ourselves (Ctrl-Z, a sleeping laptop): the peer is asked anew
                self._wire.heard = now
            looked = now
            if end := self._over(channel, now, deadline, heard, cancel):
                return end
            if given.left:
                given.to(channel)
            if moved and now - began > ROUND:
                time.sleep(PACE)
            else:
                look = 0.01 if given.left else LOOK if cancel is not None else ROUND
                wake.wait(max(0.0, min(deadline - now, look)))

    def _over(
        self, channel: paramiko.Channel, now: float, deadline: float, heard: float, cancel: threading.Event | None
    ) -> End | None:
        """Why an open channel is not read any longer; None while it is."""
        if cancel is not None and cancel.is_set():
            return "interrupted"
        if now >= deadline:
            return "timeout"
        if now - self._wire.heard > DEAD_PEER:
            return "lost"
        if channel.status_event.is_set() and now - heard > QUIET:
            return "ended"  # something else holds the stream open
        return None

    def _stop(self, channel: paramiko.Channel, wake: _Wake) -> bool:
        """Ask the guard to end the command; whether it is gone within ENDING. What it still says is dropped."""
        until = self._now() + ENDING
        with suppress(OSError):
            channel.settimeout(LOOK)
            channel.send(b"k\n")
        dropped = _Kept(0, None, None)
        while not channel.closed and self._now() < until:
            wake.rearm()
            if not dropped.take(channel):
                wake.wait(LOOK)
        return channel.closed


class _Wake(threading.Event):
    """Set by either stream of a channel when it has something. Only the loop clears it: a stream's own clearing would hide
    what came on the other one meanwhile."""

    @classmethod
    def on(cls, channel: paramiko.Channel) -> _Wake:
        wake = cls()
        channel.in_buffer.set_event(wake)
        channel.in_stderr_buffer.set_event(wake)
        return wake

    def clear(self) -> None:
        pass

    def rearm(self) -> None:
        super().clear()


class _Border:
    """Where the command's own stdout begins: behind the mark. What a login shell prints before it (a greeting in a .bashrc)
    is passed over; its last line is remembered for the case that nothing else comes."""

    def __init__(self, mark: str) -> None:
        self._mark = mark.encode()
        self._said = b""
        self.crossed = False

    def past(self, data: bytes) -> bytes:
        """Of what came on stdout, what is behind the border."""
        if self.crossed:
            return data
        before, mark, behind = (self._said + data).partition(self._mark)
        self._said, self.crossed = before[-1000:], bool(mark)
        return behind

    @property
    def last_words(self) -> str:
        lines = self._said.decode("utf-8", "replace").strip().splitlines()
        return f": {lines[-1].strip()[:200]}" if lines else ""


class _Given:
    """What a command is to read. `left` has not been sent yet; after the `last` byte its input ends."""

    def __init__(self, data: bytes, *, last: bool) -> None:
        self.left = memoryview(data)
        self._last = last

    def to(self, channel: paramiko.Channel) -> None:
        """Send as much as the other side takes now."""
        if self.left and channel.send_ready():
            self.left = self.left[channel.send(bytes(self.left[:32768])) :]
        if not self.left and self._last:
            channel.shutdown_write()


class _Kept:
    """The output of one command: at most `keep` bytes in memory, all of it to `on_output`. Without a `border` all is its own."""

    def __init__(self, keep: int, on_output: OnOutput | None, border: _Border | None) -> None:
        self._room = keep
        self._cut = 0
        self._out, self._err = BytesIO(), BytesIO()
        self._on_output = on_output
        self._border = border

    def take(self, channel: paramiko.Channel) -> bool:
        """Read what is there, on both streams. Whether there was anything."""
        moved = False
        if channel.recv_ready():
            moved = self._add("out", channel.recv(channel.in_window_size))
        if channel.recv_stderr_ready():
            moved |= self._add("err", channel.recv_stderr(channel.in_window_size))
        return moved

    def _add(self, name: Literal["out", "err"], data: bytes) -> bool:
        came = bool(data)
        if name == "out" and self._border:
            data = self._border.past(data)
        kept = data[: self._room]
        (self._out if name == "out" else self._err).write(kept)
        self._room -= len(kept)
        self._cut += len(data) - len(kept)
        if self._on_output and data:
            try:
                self._on_output(name, data)
            except OSError as error:  # a full disk here is not a lost connection there
                raise Failed(f"the output could not be kept: {error}") from error
        return came

    def ran(self, host: str, seconds: float, told: dict[str, Any]) -> Ran:
        out, err = self._out.getvalue(), self._err.getvalue()
        return Ran(host=host, stdout=out, stderr=err, seconds=seconds, cut=self._cut, **told)


def _told(
    end: End, code: int, signal: str | None, timeout: float, alive: bool, border: _Border
) -> dict[str, Any]:  # fmt: skip
    """What to say of a command's end. `code` is -1 where the host gave none."""
    if end == "timeout":
        unbegun = "" if border.crossed else f": the login shell had not begun the command{border.last_words}"
        return {"status": "timeout", "error": f"no end within {timeout:.3g}s{unbegun}"}
    if end == "interrupted":
        return {"status": "interrupted", "error": "interrupted"}
    if end == "lost":
        return {"status": "failed", "error": f"connection lost: the host has said nothing for {DEAD_PEER:.3g}s"}
    if signal is not None:
        return {"status": "failed", "signal": signal, "error": f"killed by {signal}"}
    if code >= 0 and not border.crossed:
        unrun = f"the login shell ended (exit {code}) and did not run the command{border.last_words}"
        return {"status": "failed", "begun": False, "error": unrun}
    if code < 0:
        lost = "the host ended it without an exit code" if alive else "connection lost: closed before the command's end"
        return {"status": "failed", "error": lost}
    return {"status": "failed" if code else "ok", "exit": code, "error": f"exit {code}" if code else None}


def _said(error: BaseException) -> str:
    return str(error) or type(error).__name__
