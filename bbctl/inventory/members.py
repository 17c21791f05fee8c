"""Who belongs where: the hosts of an inventory in order, its groups, and what each host has from groups and from itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import translate
from re import compile as compile_regex
from typing import Any

from bbctl.near import hint, shown
from bbctl.ranges import expand, split_commas
from bbctl.schema import NAME, NAME_EXPECTED
from bbctl.yamlfile import Map, Node, Scalar, Seq

MAX_HOSTS = 10_000
MAX_MENTIONS = 50_000  # hosts named over all groups
MAX_NESTING = 20
MAX_SERVICES = 20_000  # over all hosts; more would take seconds and is a mistake
BUILT_IN = ("name", "address", "port", "user", "site")  # placeholders that every host has


@dataclass
class Members:
    """`services` of a host: (service, the VIP its group gives it or None), in order, each service once."""

    groups: dict[str, tuple[str, ...]]
    names: list[str]
    groups_of: dict[str, tuple[str, ...]]
    services: dict[str, dict[str, str | None]] = field(default_factory=dict)
    vars: dict[str, dict[str, str]] = field(default_factory=dict)


def read_members(root: Map, said: Mapping[str, Any]) -> Members:
    """Raises ConfigError for names that clash, are unknown, or say two things at once."""
    groups = _Groups(root, said)
    resolved = {name: groups.hosts(name) for name in said.get("groups", {})}
    own = said.get("hosts", {})
    names = list(dict.fromkeys([host for hosts in resolved.values() for host in hosts] + list(own)))
    if len(names) > MAX_HOSTS:
        raise root.error(f"more than {MAX_HOSTS:,} hosts")
    belongs: dict[str, list[str]] = {name: [] for name in names}
    for group, hosts in resolved.items():
        for host in hosts:
            belongs[host].append(group)
    members = Members(resolved, names, {name: tuple(found) for name, found in belongs.items()})
    _check_names(root, own, members)
    _check_vars(root)
    count = 0
    for name in names:
        members.vars[name] = _vars(root, said, name, members.groups_of[name])
        members.services[name] = _services(root, said, name, members.groups_of[name])
        count += len(members.services[name])
        if count > MAX_SERVICES:
            raise at(root, "services").error(f"more than {MAX_SERVICES:,} services over all hosts")
    return members


def at(root: Map, *path: str) -> Node:
    """The node at `path`, or the deepest one on the way to it."""
    node: Node = root
    for step in path:
        if not isinstance(node, Map) or step not in node.items:
            break
        node = node.items[step]
    return node


def words(node: Node) -> list[Scalar]:
    """Each word of a string or list of names, commas parted, with its line."""
    leaves = (
        [node]
        if isinstance(node, Scalar)
        else [item for item in getattr(node, "items", ()) if isinstance(item, Scalar)]
    )
    return [Scalar(leaf.source, leaf.line, word, leaf.plain) for leaf in leaves for word in split_commas(leaf.text)]


# -- groups ------------------------------------------------------------------------------------------------------


class _Groups:
    """Hosts by group, each group worked out once."""

    def __init__(self, root: Map, said: Mapping[str, Any]) -> None:
        self._root = root
        self._said = said.get("groups", {})
        self._known: dict[str, tuple[str, ...]] = {}
        self._mentions = 0

    def hosts(self, group: str, within: tuple[str, ...] = ()) -> tuple[str, ...]:
        if group in self._known:
            return self._known[group]
        if group in within or len(within) > MAX_NESTING:
            raise at(self._root, "groups", group, "groups").error(
                f"groups.{group} contains itself" if group in within else f"groups nested deeper than {MAX_NESTING}"
            )
        found: dict[str, None] = dict.fromkeys(self._named(group))
        for word in self._words(group, "groups"):
            if word.text not in self._said:
                raise word.error(f"groups.{group}: unknown group {shown(word.text)}{hint(word.text, self._said)}")
            found |= dict.fromkeys(self.hosts(word.text, (*within, group)))
        for word in self._words(group, "exclude"):
            for host in self._excluded(group, word, found):
                found.pop(host, None)
        self._known[group] = tuple(found)
        self._mentions += len(found)
        if self._mentions > MAX_MENTIONS:
            raise at(self._root, "groups", group).error(f"more than {MAX_MENTIONS:,} hosts over all groups")
        return self._known[group]

    def _words(self, group: str, key: str) -> list[Scalar]:
        return words(at(self._root, "groups", group, key)) if self._said[group].get(key) else []

    def _named(self, group: str) -> list[str]:
        return [host for word in self._words(group, "hosts") for host in self._expanded(group, word, check=True)]

    def _excluded(self, group: str, word: Scalar, among: Iterable[str]) -> list[str]:
        patterns = [compile_regex(translate(name)) for name in self._expanded(group, word, check=False)]
        gone = [host for host in among if any(pattern.match(host) for pattern in patterns)]
        if not gone:
            # A misspelt exclusion would let a host be restarted that was meant to be spared.
            raise word.error(
                f"groups.{group}.exclude: {shown(word.text)} matches no host of it{hint(word.text, among)}"
            )
        return gone

    def _expanded(self, group: str, word: Scalar, *, check: bool) -> list[str]:
        try:
            names = expand(word.text, most=MAX_HOSTS)
        except ValueError as error:
            raise word.error(f"groups.{group}: {shown(word.text)}: {error}") from None
        self._mentions += len(names)
        if self._mentions > MAX_MENTIONS:
            raise word.error(f"more than {MAX_MENTIONS:,} hosts over all groups")
        for name in names:
            if check and not NAME.fullmatch(name):
                raise word.error(f"groups.{group}: {shown(name)} is not {NAME_EXPECTED}")
        return names


# -- hosts -------------------------------------------------------------------------------------------------------


def _check_names(root: Map, own: Mapping[str, Any], members: Members) -> None:
    """An alias means one host, and nothing else that can stand on the command line."""
    taken: dict[str, str] = {name: f"the group {name}" for name in members.groups}
    for name in members.names:
        if members.groups.get(name, (name,)) != (name,):
            raise at(root, "groups", name).error(f"groups.{name}: a group must not be named like another host")
        taken[name] = f"the host {name}"
    shorts = {name.split(".", 1)[0]: name for name in members.names}
    for name, host in own.items():
        for word in words(at(root, "hosts", name, "aliases")) if host.get("aliases") else ():
            other = taken.get(word.text) or (
                f"the host {shorts[word.text]}" if shorts.get(word.text, name) != name else None
            )
            if other and other != f"the host {name}":
                raise word.error(f"hosts.{name}: the alias {word.text} is {other} already")
            taken[word.text] = f"the host {name}"


def _vars(root: Map, said: Mapping[str, Any], name: str, groups: Iterable[str]) -> dict[str, str]:
    own: dict[str, str] = said.get("hosts", {}).get(name, {}).get("vars", {})
    found: dict[str, str] = {}
    for group in groups:
        for var, value in said["groups"][group].get("vars", {}).items():
            if found.setdefault(var, value) != value and var not in own:
                raise at(root, "groups", group, "vars", var).error(
                    f"groups.{group}.vars.{var}: another group of {name} says {shown(found[var])}; say it in hosts.{name}.vars"
                )
    return found | own


def _check_vars(root: Map) -> None:
    for section in ("groups", "hosts"):
        rows = at(root, section)
        for name in rows.items if isinstance(rows, Map) and rows is not root else ():
            given = at(root, section, name, "vars")
            for var in BUILT_IN:
                if isinstance(given, Map) and var in given.lines and given is not at(root, section, name):
                    raise given.error(
                        f"{section}.{name}.vars: {var} is given by the host itself", line=given.lines[var]
                    )


def _services(root: Map, said: Mapping[str, Any], name: str, groups: Iterable[str]) -> dict[str, str | None]:
    defined = said.get("services", {})
    found: dict[str, str | None] = {}
    for group in groups:
        vip = said["groups"][group].get("vip")
        for service in said["groups"][group].get("services", ()):
            if service not in defined:
                raise _word(root, service, "groups", group, "services").error(
                    f"groups.{group}: unknown service {service}{hint(service, defined)}",
                    next="define it under services:",
                )
            if found.get(service) not in (None, vip) and vip is not None and not defined[service].get("vip"):
                raise at(root, "groups", group, "vip").error(
                    f"groups.{group}: another group of {name} puts {service} behind {found[service]}"
                )
            found[service] = found.get(service) or vip
    for service in said.get("hosts", {}).get(name, {}).get("services", ()):
        if service not in defined and hint(service, defined):
            raise _word(root, service, "hosts", name, "services").error(
                f"hosts.{name}: unknown service {service}{hint(service, defined)}"
            )
        found.setdefault(service, None)
    return found


def _word(root: Map, text: str, *path: str) -> Node:
    node = at(root, *path)
    items = node.items if isinstance(node, Seq) else ()
    return next((item for item in items if isinstance(item, Scalar) and item.text == text), node)
