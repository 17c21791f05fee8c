"""`bbctl logs`: the last lines of a service's log, what matches, or what comes."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from bbctl.cli.front import Call, Exclude, Label, ServiceName, Targets, moment, seconds
from bbctl.errors import Interrupted, UsageError

if TYPE_CHECKING:
    from bbctl.logs import Read, Source, Wanted
    from bbctl.render.logs import Writer
    from bbctl.ssh.transport import Transport

Follow = Annotated[
    bool, typer.Option("-f", "--follow", help="Go on with what is added, through rotation, until Ctrl-C.")
]
Lines = Annotated[int | None, typer.Option("-n", "--lines", metavar="N", min=0, help="The last N lines (100).")]
Grep = Annotated[
    str | None, typer.Option("-g", "--grep", metavar="RE", help="Every line that matches, with its stack trace.")
]
Highlight = Annotated[str | None, typer.Option("--highlight", metavar="RE", help="Mark what matches, keep the rest.")]
Since = Annotated[str | None, typer.Option("--since", metavar="WHEN", help="A duration, 03:00, yesterday, ISO 8601.")]
Until = Annotated[str | None, typer.Option("--until", metavar="WHEN", help="The same.")]
Path = Annotated[str | None, typer.Option("--path", metavar="FILE", help="This file instead of the service's log.")]
For = Annotated[str | None, typer.Option("--for", metavar="D", help="With -f: end after this long.")]


def logs(
    ctx: typer.Context, target: Targets = None, follow: Follow = False, lines: Lines = None, grep: Grep = None,
    highlight: Highlight = None, since: Since = None, until: Until = None, service: ServiceName = None, path: Path = None,
    seconds: For = None, exclude: Exclude = None, label: Label = None,
) -> int:  # fmt: skip
    """Lines of the log on every host, each behind its host's name. With --grep exit 1 where nothing matches.

    \b
    Examples:
      bbctl logs accounting-worker2                         the last 100 lines
      bbctl logs workers -f                                 all of them, live, through rotation
      bbctl logs workers -g 'ERROR|OutOfMemory' --since 2h  what matches, with stack traces
      bbctl logs accounting-worker2 --path /var/log/messages -n 20
    """
    from bbctl.logs import source
    from bbctl.render.logs import Writer
    from bbctl.ssh.fanout import exit_over
    from bbctl.ssh.transport import Transport
    from bbctl.targets import select

    call: Call = ctx.obj
    wanted = _wanted(follow, lines, grep, since, until, seconds)
    hosts = select(call.fleet, target, exclude=exclude, labels=label)
    if path is None and service is None:  # of many, those that keep no log have nothing to say
        hosts = [h for h in hosts if any(s.log for s in h.services)] or hosts
    where = {h.name: source(h, service, path) for h in hosts}
    cancel = threading.Event()
    writer = Writer(
        cancel, json=call.json, highlight=_pattern("--highlight", highlight), plain="NO_COLOR" in call.environ
    )
    try:
        with Transport(call.fleet) as transport:
            found = _read(call, transport, where, wanted, writer, cancel)
    except KeyboardInterrupt:
        return 130
    except Interrupted as interrupted:
        return interrupted.exit
    if writer.closed:
        raise BrokenPipeError
    code = exit_over([one.status for one in found])
    return 1 if code == 0 and grep is not None and not follow and not any(one.lines for one in found) else code


def _read(
    call: Call,
    transport: Transport,
    where: Mapping[str, Source],
    wanted: Wanted,
    writer: Writer,
    cancel: threading.Event,
) -> list[Read]:
    """All logs at the same time, every line to the writer as it comes. Ctrl-C and Interrupted end the reading and go on up."""
    from bbctl.logs import read
    from bbctl.ssh.fanout import fanout

    def note(name: str, text: str) -> None:
        call.say(f"{name}: {where[name].path} {text}")

    def report(name: str, got: Read) -> None:
        if got.status not in ("ok", "interrupted"):
            writer.failed(name, got.status, got.error)

    ended = fanout(
        [source.host for source in where.values()],
        lambda host: read(transport, where[host.name], wanted, emit=writer.lines, cancel=cancel, note=note),
        width=max(32, len(where)) if wanted.follow else 32,
        report=report,
        cancel=cancel,
    )
    return list(ended.values())


def _wanted(
    follow: bool, lines: int | None, grep: str | None, since: str | None, until: str | None, lasts: str | None
) -> Wanted:
    """What the words mean. UsageError for what is no regex, no time, no duration, or cannot be meant together."""
    from bbctl.logs import Wanted

    if lasts is not None and not follow:
        raise UsageError("--for says how long -f goes on; there is no -f", next="bbctl logs TARGET -f --for 1m")
    if follow and until is not None:
        raise UsageError("-f has no end in the log: use --for", next="bbctl logs TARGET -f --for 1m")
    pattern = _pattern("--grep", grep)
    everything = grep is not None or since is not None or until is not None
    return Wanted(
        lines=lines if lines is not None else None if everything and not follow else 100,
        grep=None if pattern is None else re.compile(pattern.pattern.encode(), re.IGNORECASE),
        since=None if since is None else moment(since, "--since"),
        until=None if until is None else moment(until, "--until"),
        follow=follow,
        seconds=None if lasts is None else seconds(lasts, "--for"),
    )


def _pattern(option: str, text: str | None) -> re.Pattern[str] | None:
    if text is None:
        return None
    try:
        return re.compile(text, re.IGNORECASE)
    except re.error as error:
        raise UsageError(f"{option} {text!r} is no regular expression: {error}", next="bbctl logs --help") from None
