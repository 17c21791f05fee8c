"""`bbctl shell` and `cdl`: an interactive login in the service's log folder, with OpenSSH's own client and our rules."""

from __future__ import annotations

import os
import posixpath
import shutil
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from bbctl.cli.front import Call, ServiceName

if TYPE_CHECKING:
    from bbctl.model import Fleet, Host

OneHost = Annotated[str, typer.Argument(metavar="HOST", help="The one host to log in to.")]


def shell(ctx: typer.Context, host: OneHost, service: ServiceName = None) -> None:
    """Log in, in the folder where the service writes its log.

    \b
    Examples:
      bbctl shell accounting-worker2
      bbctl cdl w2 --service jboss
    """
    from bbctl.errors import Failed, UsageError
    from bbctl.targets import single

    call: Call = ctx.obj
    chosen = single(call.fleet, host)
    words = ssh_words(call.fleet, chosen, folder_of(chosen, service))
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("shell is for a terminal", next=f"bbctl exec {chosen.name} -- CMD")
    program = shutil.which("ssh")
    if program is None:
        raise Failed("there is no ssh client on this machine", next="apt-get install openssh-client")
    os.execv(program, words)  # noqa: S606


def folder_of(host: Host, service: str | None) -> str | None:
    """The folder of the log of the service that is meant; None where the host has no log. Raises UsageError."""
    from bbctl.errors import UsageError

    logs = {s.name: posixpath.dirname(s.log) for s in host.services if s.log}
    if service is not None:
        if service not in {s.name for s in host.services}:
            names = ", ".join(s.name for s in host.services) or "none"
            raise UsageError(f"{host.name} has no service {service!r}; it has {names}", next=f"bbctl hosts {host.name}")
        return logs.get(service)
    if len(set(logs.values())) > 1:
        raise UsageError(
            f"{host.name} has several logs: {', '.join(logs)}", next=f"bbctl shell {host.name} --service NAME"
        )
    return next(iter(logs.values()), None)


def ssh_words(fleet: Fleet, host: Host, folder: str | None) -> list[str]:
    """The words of an OpenSSH client that knows the keys we know, asks nobody and forwards nothing."""
    from bbctl.remote.shell import quote

    words = [*_client(fleet, host), "-t", "--", host.address]
    return words + ([f'cd {quote(folder)}; exec "${{SHELL:-sh}}" -l'] if folder else [])


def _client(fleet: Fleet, host: Host) -> list[str]:
    from bbctl.ssh.jump import last_hop
    from bbctl.ssh.knownhosts import files

    ssh, alias = host.ssh, _alias(host)
    options = {
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": " ".join(f'"{path}"' for path in files(ssh.known_hosts)),
        "ConnectTimeout": str(max(1, round(ssh.connect_timeout))),
        "ForwardAgent": "no",
        "ForwardX11": "no",
        "UpdateHostKeys": "no",
    }
    if alias:
        options["HostKeyAlias"] = alias
    if ssh.identity_file:
        options["IdentitiesOnly"] = "yes"
    if hop := last_hop(fleet, host, ssh.jump) if ssh.jump else None:
        options["ProxyCommand"] = _through(fleet, hop)
    words = ["ssh", "-F", str(ssh.config or "none"), "-l", ssh.user, "-p", str(ssh.port)]
    words += ["-i", str(ssh.identity_file)] if ssh.identity_file else []
    return words + [word for name, value in options.items() for word in ("-o", f"{name}={value}")]


def _through(fleet: Fleet, hop: Host) -> str:
    """The client that goes through a jump host: `-J` would ask there with none of our options."""
    from bbctl.remote.shell import join

    before, after = join(_client(fleet, hop)), join(["--", hop.address])
    return f"{before.replace('%', '%%')} -W [%h]:%p {after.replace('%', '%%')}"


def _alias(host: Host) -> str | None:
    """The name under which the key is stored, where that is not the address: OpenSSH looks under the address only."""
    from bbctl.ssh.knownhosts import KnownHosts, files, names

    known = KnownHosts.read(files(host.ssh.known_hosts))
    first, *others = names(host.address, host.name, host.ssh.port)
    if known.under(first):
        return None
    return next((name for name in others if known.under(name)), None)
