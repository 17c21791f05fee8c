"""Hosts, settings and links as text: columns, nothing cut, no colour, so nothing heavy is loaded for them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from bbctl.model import Fleet, Host
from bbctl.render.screen import safe
from bbctl.settings import Setting


def columns(rows: Iterable[Sequence[str]], *, head: Sequence[str] = ()) -> str:
    """Rows under each other, two blanks apart; the last column is never padded."""
    lines = [list(head)] if head else []
    lines += [[safe(cell) for cell in row] for row in rows]
    if not lines:
        return ""
    wide = [max(len(line[at]) for line in lines) for at in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, wide, strict=True)).rstrip() for line in lines
    )


def host_row(host: Host) -> dict[str, object]:
    """The record of one host as programs get it."""
    return {
        "name": host.name,
        "address": host.address,
        "port": host.ssh.port,
        "user": host.ssh.user,
        "groups": list(host.groups),
        "services": [service.name for service in host.services],
        "labels": dict(host.labels),
        "aliases": list(host.aliases),
        "vips": sorted({service.vip.name for service in host.services if service.vip}),
    }


def hosts(chosen: Sequence[Host]) -> str:
    def row(host: Host) -> tuple[str, ...]:
        where = f"{host.ssh.user}@{host.address}" + (f":{host.ssh.port}" if host.ssh.port != 22 else "")
        services = [s.name + (f" ({s.vip.name})" if s.vip else "") for s in host.services]
        return (
            host.name,
            where,
            " ".join(host.groups),
            " ".join(services),
            " ".join(f"{k}={v}" for k, v in host.labels.items()),
        )

    head = ("host", "login", "groups", "services (vip)", "labels")
    shown = len(head) if any(host.labels for host in chosen) else len(head) - 1
    return columns((row(host)[:shown] for host in chosen), head=head[:shown])


def settings(values: Sequence[Setting]) -> str:
    return columns(((value.key, value.value, value.source) for value in values), head=("key", "value", "from"))


def verdict(fleet: Fleet, remarks: Sequence[str]) -> str:
    """One line when all is well, and a line for each thing that may not be meant."""
    counts = [
        (len(fleet.hosts), "host"),
        (len(fleet.groups), "group"),
        (len(fleet.services), "service"),
        (len(fleet.vips), "VIP"),
    ]
    said = ", ".join(f"{count} {word}{'' if count == 1 else 's'}" for count, word in counts)
    site = f"{fleet.site} · " if fleet.site else ""
    return "\n".join([f"{fleet.source} ok · {site}{said}", *(f" ! {remark}" for remark in remarks)])


def links(rows: Sequence[Mapping[str, str]]) -> str:
    return columns((row["name"], row["host"] or "", row["url"]) for row in rows) or "the inventory names no links"
