"""`bbctl exec`: one command on many hosts, which ends with us, and whose equal answers are said once."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from bbctl.cli.front import Call, Exclude, Label, Targets, seconds

if TYPE_CHECKING:
    from bbctl.model import Host, Ran

Shell = Annotated[bool, typer.Option("--shell", help="What follows -- is one line for the shell (pipes, $, ;).")]
Width = Annotated[int, typer.Option("--width", min=1, metavar="N", help="How many hosts at a time.")]
Timeout = Annotated[str, typer.Option("--timeout", metavar="D", help="For each host, login included.")]
Outdir = Annotated[
    Path | None, typer.Option("--outdir", metavar="DIR", help="Also write HOST.out and HOST.err there, raw.")
]


def exec_(
    ctx: typer.Context,
    target: Targets = None,
    exclude: Exclude = None,
    label: Label = None,
    shell: Shell = False,
    width: Width = 32,
    timeout: Timeout = "5m",
    outdir: Outdir = None,
) -> int:
    """Run a command on hosts: bbctl exec TARGET -- CMD ARG… It gets no input, and ends on the host when we end.

    \b
    Examples:
      bbctl exec workers -- uptime
      bbctl exec workers --shell -- 'df -h | tail -3'
      bbctl exec '*' --timeout 30s --outdir out -- cat /etc/os-release
    """
    from bbctl.errors import UsageError
    from bbctl.remote import shell as text
    from bbctl.ssh.dial import Ahead
    from bbctl.targets import select

    call: Call = ctx.obj
    if not call.tail:
        raise UsageError("the command goes after --", next="bbctl exec TARGET -- CMD ARG…")
    hosts = select(call.fleet, target, exclude=exclude, labels=label, needed=True)
    command = text.script(" ".join(call.tail)) if shell else text.program(call.tail)
    for part in text.guarded(command, 1.0):
        text.encoded(part)  # refused here, before anything is opened
    _writable(outdir)
    if not (limit := seconds(timeout, "--timeout")):
        raise UsageError("--timeout: nothing can be done in no time", next="bbctl exec TARGET --timeout 30s -- CMD")
    ahead = Ahead(hosts[:width])  # what follows takes longer to load than a host to answer

    from bbctl.cli.audited import act
    from bbctl.render import answers, screen
    from bbctl.ssh.transport import Transport

    live = _Live(len(hosts)) if call.output == "table" and sys.stdout.isatty() else None

    def one(host: Host, cancel: threading.Event) -> Ran:
        with _Files(outdir, host.name) as files:

            def heard(stream: Literal["out", "err"], data: bytes) -> None:
                files.write(stream, data)
                if live:
                    live.write(host.name, stream, data)

            try:
                ran = transport.run(host, command, timeout=limit, guard=True, cancel=cancel, on_output=heard)
            finally:
                transport.forget(host)
        if live:
            live.end(host.name)
        return ran

    with (
        act(call, targets={"hosts": [h.name for h in hosts]}, reason="") as outcome,
        Transport(call.fleet, ahead=ahead) as transport,
    ):
        rows, stopped = run_on_all(hosts, one, width=width)
        outcome["said"] = answers.tally(rows)
    alone = live is not None and len(hosts) == 1  # all of it has been shown as it came
    if not alone:
        call.show([answers.exec_row(r) for r in rows], lambda: answers.folded(rows), name="host")
    if call.output == "table" and (len(rows) > 1 or (alone and rows[0].status != "ok")):
        screen.err(answers.tally(rows) if len(rows) > 1 else f"{rows[0].status}: {screen.safe(rows[0].error or '')}")
        if not shell and any(row.exit == 127 for row in rows):
            _say_shell(call, target, exclude, label)
    return over(rows, stopped)


def _say_shell(
    call: Call, target: Sequence[str] | None, exclude: Sequence[str] | None, label: Sequence[str] | None
) -> None:
    """Where what no host found as a program looks like a line for the shell."""
    from bbctl.render import screen

    if len(call.tail) == 1 and " " in call.tail[0].strip():
        left_out = [word for x in exclude or () for word in ("-x", x)]
        who = [*(target or ()), *left_out, *(word for x in label or () for word in ("-l", x))]
        screen.err(f"a program of that name was looked for; a line for the shell wants --shell: {_line(call, who)}")


def _line(call: Call, who: Sequence[str]) -> str:
    """The same call with --shell, to the same inventory. What the user typed is not looked through for commands of ours."""
    from bbctl.remote.shell import join
    from bbctl.render import screen

    with screen.commands_for(call.inventory):
        return screen.typed(f"bbctl exec {join(who)}") + f" --shell -- {join(call.tail)}"


def run_on_all(
    hosts: Sequence[Host], one: Callable[[Host, threading.Event], Ran], *, width: int = 32
) -> tuple[list[Ran], int]:
    """`one` on every host; the rows, one for each host, and the signal that stopped us (0: none)."""
    from bbctl.errors import Interrupted
    from bbctl.model import Ran
    from bbctl.ssh.fanout import fanout

    cancel, stopped = threading.Event(), 0
    found: dict[str, Ran] = {}
    try:
        fanout(hosts, lambda host: one(host, cancel), width=width, cancel=cancel, report=found.__setitem__)
    except KeyboardInterrupt:
        stopped = 2
    except Interrupted as error:
        stopped = error.exit - 128
    missing = "interrupted before it was done"
    return [found.get(h.name) or Ran(host=h.name, status="interrupted", error=missing) for h in hosts], stopped


def over(rows: Sequence[Ran], stopped: int) -> int:
    from bbctl.ssh.fanout import exit_over

    return 128 + stopped if stopped else exit_over(row.status for row in rows)


def _writable(folder: Path | None) -> None:
    from bbctl.errors import UsageError

    if folder is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--outdir {folder}: {error.strerror}", next="bbctl exec TARGET --outdir DIR -- CMD") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"--outdir {folder}: may not be written to", next="bbctl exec TARGET --outdir DIR -- CMD")


class _Files:
    """Where the raw output of one host goes: HOST.out, and HOST.err where there is any. Nowhere without a folder."""

    def __init__(self, folder: Path | None, host: str) -> None:
        self._folder, self._host = folder, host
        self._open: dict[str, int] = {}

    def __enter__(self) -> _Files:
        if self._folder:
            self.write("out", b"")
        return self

    def __exit__(self, *_: object) -> None:
        for descriptor in self._open.values():
            os.close(descriptor)

    def write(self, stream: str, data: bytes) -> None:
        if not self._folder:
            return
        if stream not in self._open:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
            self._open[stream] = os.open(self._folder / f"{self._host}.{stream}", flags, 0o600)
        while data:
            data = data[os.write(self._open[stream], data) :]


class _Live:
    """Output as it comes, a whole line at a time: alone to stdout as it is; of several hosts to stderr, each line with its
    host, since the folded result follows."""

    def __init__(self, hosts: int) -> None:
        self._alone = hosts == 1
        self._lock = threading.Lock()
        self._begun: dict[tuple[str, str], bytes] = {}

    def write(self, host: str, stream: Literal["out", "err"], data: bytes) -> None:
        whole, newline, rest = (self._begun.pop((host, stream), b"") + data).rpartition(b"\n")
        if rest:
            self._begun[host, stream] = rest[-65536:]  # of a line without end its end is enough to look at
        if newline:
            self._show(host, stream, whole)

    def end(self, host: str) -> None:
        streams: tuple[Literal["out", "err"], ...] = ("out", "err")
        for stream in streams:
            if left := self._begun.pop((host, stream), b""):
                self._show(host, stream, left)

    def _show(self, host: str, stream: Literal["out", "err"], data: bytes) -> None:
        from bbctl.render import answers, screen

        lines = answers.shown(data.decode("utf-8", "replace") + "\n")
        with self._lock:
            if self._alone:
                (screen.out if stream == "out" else screen.err)("\n".join(lines))
            else:
                screen.err("\n".join(f"{host.split('.')[0]}  {line}" for line in lines))
