"""What is allowed in an inventory and yet probably not meant: pure, a line each, for `config check`."""

from __future__ import annotations

from collections.abc import Iterator

from bbctl.model import Fleet


def remarks(fleet: Fleet) -> list[str]:
    return [*_services(fleet), *_twins(fleet), *_vips(fleet), *_files(fleet)]


def _services(fleet: Fleet) -> Iterator[str]:
    used = {service.name for host in fleet.hosts.values() for service in host.services}
    for host in fleet.hosts.values():
        for service in host.services:
            if service.name not in fleet.services:
                yield f"{service.name} on {host.name} has no entry under services: nothing can be done with it"
    for name in fleet.services:
        if name not in used:
            yield f"no host runs the service {name}"


def _twins(fleet: Fleet) -> Iterator[str]:
    """Services of one host that are told by the same pattern are one process: who restarts one ends the other."""
    told = set()
    for host in fleet.hosts.values():
        for at, one in enumerate(host.services):
            for other in host.services[at + 1 :]:
                if one.process is None or other.process is None:
                    continue
                same = (one.process.match, one.process.user) == (other.process.match, other.process.user)
                if same and (one.name, other.name) not in told:
                    told.add((one.name, other.name))
                    yield f"{one.name} and {other.name} on {host.name} are told by the same process.match: one process"


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
