"""One SSH connection to a lab host, server side: who may come in, and what a channel does.

It behaves as OpenSSH does where a caller can tell: separate stdout and stderr, exit status or exit signal as soon as the
command ends, the channel open until its output is read, forwarding to the host's own address, a terminal when asked for.
What a lost connection leaves behind lives on, as it would there.
"""

from __future__ import annotations

import os
import pty
import signal
import socket
import struct
import subprocess
import termios
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from fcntl import ioctl
from typing import IO

import paramiko
from paramiko.common import (
    AUTH_FAILED,
    AUTH_SUCCESSFUL,
    OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED,
    OPEN_FAILED_CONNECT_FAILED,
    OPEN_SUCCEEDED,
    cMSG_CHANNEL_REQUEST,
)

from bbctl.lab.children import Children

CHUNK = 32768


@dataclass
class Terminal:
    """What `pty-req` asked for."""

    term: str
    size: tuple[int, int]


@dataclass(eq=False)
class Login(paramiko.ServerInterface):
    """`forwards`: the only addresses that may be reached through this host."""

    user: str
    key: paramiko.PKey
    environ: Mapping[str, str]
    forwards: tuple[str, ...]
    children: Children
    terminals: dict[int, Terminal] = field(default_factory=dict)
    masters: dict[int, int] = field(default_factory=dict)
    reached: dict[int, socket.socket] = field(default_factory=dict)

    # -- who

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        good = username == self.user and key == self.key
        return AUTH_SUCCESSFUL if good else AUTH_FAILED

    # -- what

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return OPEN_SUCCEEDED if kind == "session" else OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED

    def check_channel_direct_tcpip_request(
        self, chanid: int, origin: tuple[str, int], destination: tuple[str, int]
    ) -> int:
        if destination[0] not in self.forwards:
            return OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED
        address = self.forwards[0] if destination[0] == "localhost" else destination[0]
        try:
            self.reached[chanid] = socket.create_connection((address, destination[1]), timeout=3)
        except OSError:
            return OPEN_FAILED_CONNECT_FAILED
        return OPEN_SUCCEEDED

    def check_channel_pty_request(
        self, channel: paramiko.Channel, term: bytes, width: int, height: int, pixelwidth: int, pixelheight: int, modes: bytes
    ) -> bool:  # fmt: skip
        self.terminals[channel.get_id()] = Terminal(term.decode("ascii", "replace"), (height, width))
        return True

    def check_channel_window_change_request(
        self, channel: paramiko.Channel, width: int, height: int, pixelwidth: int, pixelheight: int
    ) -> bool:
        master = self.masters.get(channel.get_id())
        if master is not None:
            with suppress(OSError):
                _resize(master, (height, width))
        return True

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        return self._run(channel, ["/bin/sh", "-c", os.fsdecode(command)])

    def check_channel_shell_request(self, channel: paramiko.Channel) -> bool:
        return self._run(channel, ["/bin/sh", "-l"])

    def forward(self, channel: paramiko.Channel) -> None:
        """Carry bytes between a direct-tcpip channel and where it was opened to. For the accepting loop."""
        link = self.reached.pop(channel.get_id(), None)
        if link is not None:
            link.settimeout(None)
            _thread(_carry, channel, link)
            _thread(_bring, channel, link)

    def _run(self, channel: paramiko.Channel, words: list[str]) -> bool:
        terminal = self.terminals.get(channel.get_id())
        _thread(self._on_terminal if terminal else self._with_pipes, channel, words)
        return True

    # -- commands

    def _with_pipes(self, channel: paramiko.Channel, words: list[str]) -> None:
        process = self.children.start(
            words, env=self.environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        pumps = [
            _thread(_pump, process.stdout.fileno(), channel.sendall),
            _thread(_pump, process.stderr.fileno(), channel.sendall_stderr),
        ]
        _thread(_feed, channel, process.stdin)
        _tell(channel, self.children.wait(process))
        for pump in pumps:
            pump.join()
        process.stdout.close()
        process.stderr.close()
        channel.close()

    def _on_terminal(self, channel: paramiko.Channel, words: list[str]) -> None:
        terminal = self.terminals[channel.get_id()]
        master, slave = pty.openpty()
        self.masters[channel.get_id()] = master
        _resize(master, terminal.size)
        environ = {**self.environ, "TERM": terminal.term}
        process = self.children.start(["setsid", "-c", *words], env=environ, stdin=slave, stdout=slave, stderr=slave)
        os.close(slave)
        reader = _thread(_pump, master, channel.sendall)
        _thread(_type, channel, master)
        status = self.children.wait(process)
        reader.join(2)
        _tell(channel, status)
        channel.close()
        self.masters.pop(channel.get_id(), None)
        os.close(master)


def _tell(channel: paramiko.Channel, status: int) -> None:
    """Exit status, or the signal that ended it."""
    with suppress(OSError, EOFError, paramiko.SSHException):
        if status >= 0:
            channel.send_exit_status(status)
            return
        message = paramiko.Message()
        message.add_byte(cMSG_CHANNEL_REQUEST)
        message.add_int(channel.remote_chanid)
        message.add_string("exit-signal")
        message.add_boolean(False)
        message.add_string(signal.Signals(-status).name.removeprefix("SIG"))
        message.add_boolean(False)
        message.add_string("")
        message.add_string("")
        channel.get_transport()._send_user_message(message)  # type: ignore[attr-defined]  # no public way for this one


def _pump(source: int, send: Callable[[bytes], object]) -> None:
    """What a command says, to the channel; what nobody reads any more is dropped, as a broken pipe tells the command."""
    with suppress(OSError, EOFError, paramiko.SSHException):
        while data := os.read(source, CHUNK):
            send(data)


def _feed(channel: paramiko.Channel, stdin: IO[bytes]) -> None:
    """The caller's input; the end of the input, or of the connection, closes it."""
    with suppress(OSError, EOFError, ValueError):
        while data := channel.recv(CHUNK):
            _write(stdin.fileno(), data)
    with suppress(OSError):
        stdin.close()


def _type(channel: paramiko.Channel, master: int) -> None:
    with suppress(OSError, EOFError):
        while data := channel.recv(CHUNK):
            _write(master, data)


def _write(target: int, data: bytes) -> None:
    """All of it: a signal may cut a write short."""
    left = memoryview(data)
    while left:
        left = left[os.write(target, left) :]


def _carry(channel: paramiko.Channel, link: socket.socket) -> None:
    with suppress(OSError, EOFError):
        while data := channel.recv(CHUNK):
            link.sendall(data)
    with suppress(OSError):
        link.shutdown(socket.SHUT_WR)


def _bring(channel: paramiko.Channel, link: socket.socket) -> None:
    with suppress(OSError, EOFError):
        while data := link.recv(CHUNK):
            channel.sendall(data)
    channel.close()
    link.close()


def _resize(master: int, size: tuple[int, int]) -> None:
    ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))


def _thread(work: Callable[..., None], *arguments: object) -> threading.Thread:
    made = threading.Thread(target=work, args=arguments, daemon=True)
    made.start()
    return made
