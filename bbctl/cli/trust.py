"""`bbctl hosts trust`: the only way a host key becomes known, after its fingerprint was shown and somebody said yes."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bbctl.cli.front import Call, DryRun, Exclude, Label, Reason, Targets

if TYPE_CHECKING:
    from bbctl.capacity import Refusal
    from bbctl.model import Host
    from bbctl.ssh.transport import NotLoggedIn, Shown

Replace = Annotated[bool, typer.Option("--replace", help="Also where another key is known: the host was reinstalled.")]


@dataclass(frozen=True)
class Look:
    """What one host showed, or why it showed nothing; `own` is what its own known_hosts file alone thinks of the key."""

    host: Host
    shown: Shown | None
    own: str
    error: NotLoggedIn | None = None

    @property
    def wanted(self) -> bool:
        return self.shown is not None and self.own != "known"

    def row(self, outcome: str) -> dict[str, Any]:
        key = self.shown.key if self.shown else None
        return {
            "host": self.host.name,
            "key_type": key.kind if key else None,
            "fingerprint": key.fingerprint if key else None,
            "outcome": outcome,
            "error": self.error.message if self.error else None,
            "known": [k.fingerprint for k in self.shown.stored] if self.shown else [],
        }


def trust(
    ctx: typer.Context,
    target: Targets = None,
    exclude: Exclude = None,
    label: Label = None,
    replace: Replace = False,
    dry_run: DryRun = False,
    reason: Reason = None,
) -> int:
    """Show the host keys of hosts and, after a yes, add them to the inventory's known_hosts.

    \b
    Examples:
      bbctl hosts trust workers
      bbctl hosts trust accounting-worker2 --replace     its key changed, and you know why
    """
    from bbctl.cli.audited import act
    from bbctl.ssh.fanout import exit_over, fanout
    from bbctl.ssh.transport import Transport
    from bbctl.targets import select

    call: Call = ctx.obj
    hosts = select(call.fleet, target, exclude=exclude, labels=label, needed=True)
    with Transport(call.fleet) as transport:
        looks = list(fanout(hosts, lambda host: _look(transport, host)).values())
    refusals = _refusals(looks, replace)
    if dry_run:
        plan = [{"host": x.host.name, "steps": [{"step": "trust", "command": _line(x)}]} for x in looks if x.wanted]
        lines = [_line(x) for x in looks if x.wanted] + [r.message for r in refusals]
        result = {"dry_run": True, "plan": plan, "refusals": [r.as_json() for r in refusals]}
        call.show(result, lambda: "\n".join(lines) or "nothing to add")
        return 0
    _decide(call, looks, refusals)
    wanted = {x.host.name: x.shown.key.fingerprint for x in looks if x.shown and x.wanted}
    if wanted:
        with act(call, targets={"hosts": list(wanted)}, reason=reason or "") as outcome:
            _write(looks, replace)
            outcome["keys"] = wanted
    done = [x.row(_outcome(x)) for x in looks]
    call.show(done, lambda: _screen(done))
    return exit_over(x.error.status if x.error else "ok" for x in looks)


def _look(transport: Any, host: Host) -> Look:
    from bbctl.ssh.knownhosts import KnownHosts
    from bbctl.ssh.transport import NotLoggedIn

    try:
        shown: Shown = transport.host_key(host)
    except NotLoggedIn as error:
        return Look(host, None, "unknown", error)
    own = KnownHosts.read([_file(host)]).verdict(shown.names, shown.key)
    return Look(host, shown, own if own != "unknown" or shown.verdict == "known" else shown.verdict)


def _file(host: Host) -> Path:
    from bbctl.ssh.knownhosts import files

    return files(host.ssh.known_hosts)[0]


def _refusals(looks: Sequence[Look], replace: bool) -> list[Refusal]:
    from bbctl.capacity import Refusal

    said = []
    for look in looks:
        why, next = None, None
        if look.own == "revoked":
            why = "its key is marked @revoked in known_hosts; only taking that line out helps"
        elif look.own == "changed" and not replace:
            why = "another key is known; --replace, once you know why it changed"
            next = f"bbctl hosts trust {look.host.name} --replace"
        if why:
            said.append(Refusal(code="host-key", message=f"{look.host.name}: {why}", host=look.host.name, next=next))
    return said


def _decide(call: Call, looks: Sequence[Look], refusals: Sequence[Refusal]) -> None:
    """Raises Refused, or NotConfirmed where nobody says yes; nothing has been written then."""
    from bbctl.errors import Refused

    asked = [x.row(x.own if x.wanted else _outcome(x)) for x in looks]
    if refusals:
        names = " ".join(x.host.name for x in looks if x.own == "changed")
        raise Refused(
            f"host key changed: {'; '.join(r.message for r in refusals)}",
            code="host-key",
            next=f"bbctl hosts trust {names} --replace" if names else None,
            result=asked,
        )
    wanted = [x for x in looks if x.wanted]
    if wanted:
        if call.can_ask or not call.yes:
            call.say(_screen([x.row(_said(x)) for x in wanted]))
        call.confirm(f"Compare with the hosts' own. Trust {len(wanted)}?", result=asked)


def _said(look: Look) -> str:
    assert look.shown is not None
    if look.shown.verdict == "known":
        return "same as in ~/.ssh/known_hosts"
    return (
        "NEW" if look.own == "unknown" else "CHANGED, known is " + ", ".join(k.fingerprint for k in look.shown.stored)
    )


def _write(looks: Sequence[Look], replace: bool) -> None:
    from bbctl.ssh import knownhosts

    files: dict[Path, list[tuple[tuple[str, ...], knownhosts.HostKey]]] = {}
    for look in looks:
        if look.wanted and look.shown:
            files.setdefault(_file(look.host), []).append((look.shown.names[:2], look.shown.key))
    for path, keys in files.items():
        knownhosts.trust(path, keys, replace=replace)


def _outcome(look: Look) -> str:
    if look.error:
        return look.error.status
    return {"known": "known", "unknown": "trusted", "changed": "replaced"}[look.own]


def _line(look: Look) -> str:
    assert look.shown is not None
    key = look.shown.key
    line = f"{','.join(look.shown.names[:2])} {key.kind} {base64.b64encode(key.blob).decode()}"
    return f"{_file(look.host)}: {line}   {key.fingerprint}"


def _screen(rows: Sequence[dict[str, Any]]) -> str:
    from bbctl.render import answers

    return answers.keys(rows)
