"""An inventory file → Fleet: every host complete, its services and VIPs already its own.

Read once per command. Wrong in any way is a ConfigError that begins with `file:line`; nothing is guessed.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from bbctl.errors import ConfigError
from bbctl.inventory.keys import INVENTORY, SERVICE, VIP
from bbctl.inventory.members import BUILT_IN, Members, at, read_members
from bbctl.model import Drain, Fleet, Host, Lock, Process, Service, Ssh, Vip
from bbctl.near import hint, shown
from bbctl.schema import PLACEHOLDER, as_map, fill, has_braces, local_path, read
from bbctl.yamlfile import Map, Node, Scalar
from bbctl.yamlfile import load as load_yaml
from bbctl.yamlfile import parse as parse_yaml

NO_FLEET = Fleet(source=None, site="", hosts={}, groups={})


def load(path: Path, environ: Mapping[str, str], *, name: str | None = None) -> Fleet:
    """The fleet of a file. `name` is what messages call it. Raises ConfigError, and nothing else."""
    return resolve(load_yaml(path, name=name), path.absolute(), environ)


def parse(text: str, source: str, environ: Mapping[str, str]) -> Fleet:
    """The fleet of a text that would stand in the file `source`."""
    return resolve(parse_yaml(text, source), Path(source).absolute(), environ)


def resolve(document: Node, path: Path, environ: Mapping[str, str]) -> Fleet:
    root = as_map(document, INVENTORY.what, "")
    said = read(root, INVENTORY)
    ssh = Ssh(**({"user": login_name(environ), "known_hosts": path.parent / "known_hosts"} | said.get("ssh", {})))
    members = read_members(root, said)
    builder = _Builder(root, said, members)
    hosts = {name: builder.host(name, ssh=ssh, lock=said.get("lock", Lock())) for name in members.names}
    return Fleet(
        source=path, site=said.get("site", ""), hosts=hosts, groups=members.groups,
        services=tuple(said.get("services", {})), vips=builder.plain_vips(), links=said.get("links", {}),
        alerts=said.get("alerts", {}), stores=said.get("stores", {}), expected=said.get("expected", {}),
    )  # fmt: skip


def login_name(environ: Mapping[str, str]) -> str:
    """Who runs this process."""
    named = environ.get("LOGNAME") or environ.get("USER")
    if named:
        return named
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def links(fleet: Fleet, host: Host | None = None) -> dict[str, str]:
    """The links that are one host's own (as far as its vars fill them); without a host those that name none."""
    values = {"site": fleet.site} if host is None else _placeholders(host, fleet.site)
    found: dict[str, str] = {}
    for name, text in fleet.links.items():
        needed = set(PLACEHOLDER.findall(text))
        if needed <= set(values) and (host is None or needed - {"site"}):
            found[name] = PLACEHOLDER.sub(lambda match: values[match[1]], text)
    return found


def _placeholders(host: Host, site: str) -> dict[str, str]:
    own = (host.name, host.address, str(host.ssh.port), host.ssh.user, site)
    return dict(host.vars) | dict(zip(BUILT_IN, own, strict=True))


class _Builder:
    """Hosts of one file. Services and VIPs without a placeholder are built once and shared by all hosts."""

    def __init__(self, root: Map, said: Mapping[str, Any], members: Members) -> None:
        self._root = root
        self._said = said
        self._site = said.get("site", "")
        self._members = members
        self._services = as_map(root.items.get("services", _nothing(root)), "services", "services").items
        vips = as_map(root.items.get("vips", _nothing(root)), "VIPs", "vips").items
        self._vips = {name: _with_server(node) for name, node in vips.items()}
        self._shared: dict[tuple[str, ...], Any] = {}
        self._check_templates()
        self._check_vip_names()

    def host(self, name: str, *, ssh: Ssh, lock: Lock) -> Host:
        own = self._said.get("hosts", {}).get(name, {})
        logins = {key: own[key] for key in ("user", "port", "identity_file") if key in own}
        bare = Host(
            name=name, address=own.get("address", name), ssh=replace(ssh, **logins) if logins else ssh, lock=lock,
            aliases=tuple(own.get("aliases", ())), labels=own.get("labels", {}), vars=self._members.vars[name],
            groups=self._members.groups_of[name],
        )  # fmt: skip
        values = _placeholders(bare, self._site)
        given = self._members.services[name].items()
        return replace(bare, services=tuple(self._service(service, vip, bare, values) for service, vip in given))

    def plain_vips(self) -> dict[str, Vip]:
        """The VIPs as such, placeholders of hosts left standing."""
        return {name: self._read_vip(name, self._as_they_are(), host=None) for name in self._vips}

    def _service(self, name: str, group_vip: str | None, host: Host, values: Mapping[str, str]) -> Service:
        if name not in self._services:
            return Service(name=name)
        node = self._services[name]
        vip = self._said["services"][name].get("vip", group_vip or "none")
        shared = ("service", name, vip, host.ssh.user)
        if shared in self._shared:
            return self._shared[shared]  # type: ignore[no-any-return]
        service = self._read_service(name, _for(host, node, SERVICE, values), host)
        service = replace(service, vip=self._vip(vip, host, values))
        if not has_braces(node) and not (vip in self._vips and has_braces(self._vips[vip])):
            self._shared[shared] = service
        return service

    def _read_service(self, name: str, node: Node, host: Host) -> Service:
        said = read(node, SERVICE, where=f"services.{name}")
        said.pop("vip", None)
        for command in ("start", "stop"):
            said[command] = tuple(said.get(command, ()))
        if "process" in said:
            said["process"] = Process(**({"user": said.get("run_as", host.ssh.user)} | said["process"]))
        if said.get("run_as") == host.ssh.user:  # already there: nobody needs rights to become oneself
            del said["run_as"]
        return Service(name=name, **said)

    def _vip(self, name: str, host: Host, values: Mapping[str, str]) -> Vip | None:
        if name == "none":
            return None
        shared = ("vip", name)
        if shared not in self._shared or has_braces(self._vips[name]):
            self._shared[shared] = self._read_vip(name, values, host=host)
        return self._shared[shared]  # type: ignore[no-any-return]

    def _read_vip(self, name: str, values: Mapping[str, str], *, host: Host | None) -> Vip:
        node = _for(host, self._vips[name], VIP, values)
        said = read(node, VIP, where=f"vips.{name}")
        if "drain" in said:
            said["drain"] = self._drain(as_map(node, "", ""), said["drain"])
        return Vip(name=name, **said)

    def _drain(self, vip: Map, said: Mapping[str, Any]) -> Drain:
        drain = dict(said)
        if drain["kind"] == "haproxy":
            machine = drain.get("host")
            if machine is None:
                drain["socket"] = str(local_path(vip.source, drain["socket"]))
            elif machine not in self._members.names and not PLACEHOLDER.search(machine):
                known = hint(machine, self._members.names)
                raise at(vip, "drain", "host").error(f"drain: {shown(machine)} is no host of this file{known}")
        for word, name in (("out", "out"), ("in", "in_"), ("state", "state")):
            drain[name] = tuple(drain.pop(word, ()))
        return Drain(**drain)

    def _check_templates(self) -> None:
        """Braces are right everywhere, in what no host uses too."""
        known = self._as_they_are()
        for section in ("services", "vips", "links"):
            if section in self._root.items:
                fill(self._root.items[section], INVENTORY.keys[section].kind, known)

    def _as_they_are(self) -> dict[str, str]:
        names = [*BUILT_IN, *(var for given in self._members.vars.values() for var in given)]
        return {name: f"{{{name}}}" for name in names}

    def _check_vip_names(self) -> None:
        if "none" in self._vips:
            raise self._vips["none"].error('vips: "none" stands for no VIP and cannot name one')
        for section in ("groups", "services"):
            for name, said in self._said.get(section, {}).items():
                vip = said.get("vip", "none")
                if vip != "none" and vip not in self._vips:
                    node = at(self._root, section, name, "vip")
                    raise node.error(f"{section}.{name}: unknown VIP {shown(vip)}{hint(vip, self._vips)}")


def _for(host: Host | None, node: Node, kind: Any, values: Mapping[str, str]) -> Node:
    try:
        return fill(node, kind, values)
    except ConfigError as error:
        raise ConfigError(f"{error.message} (for {host.name})" if host else error.message, next=error.next) from None


def _with_server(vip: Node) -> Node:
    """A proxy that is told no server's name has each host under its own: said here, so that no two hosts share it."""
    drain = vip.items.get("drain") if isinstance(vip, Map) else None
    if not isinstance(vip, Map) or not isinstance(drain, Map):
        return vip
    kind = drain.items.get("kind")
    if not isinstance(kind, Scalar) or kind.text != "haproxy" or "server" in drain.items:
        return vip
    items = {**drain.items, "server": Scalar(drain.source, drain.line, "{name}", False)}
    named = Map(drain.source, drain.line, items, {**drain.lines, "server": drain.line})
    return Map(vip.source, vip.line, {**vip.items, "drain": named}, vip.lines)


def _nothing(root: Map) -> Map:
    return Map(root.source, root.line, {}, {})
