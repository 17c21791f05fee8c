"""Which hosts a login goes through: `ssh.jump` (or an ssh_config's ProxyJump) as hosts with settings of their own. Pure."""

from __future__ import annotations

from dataclasses import replace

from bbctl.model import Fleet, Host


def last_hop(fleet: Fleet, host: Host, jump: str) -> Host | None:
    """The last of the hops in `[user@]name[:port],…`, whose own `ssh.jump` is those before it.

    A hop is a host of the inventory, or one made of the words and the settings of `host`. None where it would be `host`
    itself: a default for all hosts means the jump host too.
    """
    *before, words = [hop.strip() for hop in jump.split(",")]
    rest, colon, port = words.rpartition(":")
    name, number = (rest, int(port)) if colon and port.isdigit() else (words, None)
    user, _, name = name.rpartition("@")
    known = fleet.hosts.get(name) or next(
        (h for h in fleet.hosts.values() if name in h.aliases or name == h.short), None
    )
    if known and known.name == host.name:
        return None
    base = known.ssh if known else replace(host.ssh, port=22)
    ssh = replace(base, jump=",".join(before) or None, user=user or base.user, port=number or base.port)
    return replace(known, ssh=ssh) if known else Host(name=name, address=name, ssh=ssh)
