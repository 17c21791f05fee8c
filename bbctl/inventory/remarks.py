"""What is allowed in an inventory and yet probably not meant: pure, a line each, for `config check`."""

from __future__ import annotations

from collections.abc import Iterator

from bbctl.model import Fleet


def remarks(fleet: Fleet) -> list[str]:
    return [*_services(fleet), *_vips(fleet), *_files(fleet)]


def _services(fleet: Fleet) -> Iterator[str]:
    used = {service.name for host in fleet.hosts.values() for service in host.services}
    for host in fleet.hosts.values():
        for service in host.services:
            if service.name not in fleet.services:
                yield f"{service.name} on {host.name} has no entry under services: nothing can be done with it"
    for name in fleet.services:
        if name not in used:
            yield f"no host runs the service {name}"


def _vips(fleet: Fleet) -> Iterator[str]:
    for name, vip in fleet.vips.items():
        pool = [
            host for host in fleet.hosts.values() for s in host.services if s.vip is not None and s.vip.name == name
        ]
        if not pool:
            yield f"nothing stands behind the VIP {name}"
        elif vip.min_in_service >= len(pool):
            yield f"{name}: min_in_service {vip.min_in_service} of {len(pool)}: no host can ever be taken out"
        if vip.drain is None:
            yield f"{name} has no drain: hosts cannot be taken out of it"


def _files(fleet: Fleet) -> Iterator[str]:
    keys = {host.ssh.identity_file for host in fleet.hosts.values()} - {None}
    for path in sorted(str(key) for key in keys if key is not None and not key.exists()):
        yield f"identity_file {path} is not there"
