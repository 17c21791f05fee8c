"""What people type for hosts → hosts of the fleet, in the inventory's order.

A word is a group (`workers`, `@workers`), a host (its first label is enough), an alias, a range (`w[1-3]`, `w{1,3}`) or a
pattern with `*` and `?`; lists with commas. Nothing else has a meaning: a name is data. A word that fits nothing is
refused with the nearest that do, so that a slip of the finger never selects less or more than was meant.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from bbctl.errors import UsageError
from bbctl.model import Fleet, Host
from bbctl.near import hint, shown
from bbctl.ranges import expand, split_commas


def select(
    fleet: Fleet,
    targets: Sequence[str] | None,
    *,
    exclude: Sequence[str] | None = None,
    labels: Sequence[str] | None = None,
    needed: bool = False,
) -> list[Host]:
    """The hosts meant; without TARGET all, or, where one is `needed` (a command that changes something), UsageError.

    Every label must fit. Raises UsageError for unknown words and for a selection that leaves no host.
    """
    if not targets and needed:
        raise UsageError(
            f"a TARGET is needed, to change something; groups: {', '.join(fleet.groups) or 'none'}",
            code="target-needed",
            next="bbctl hosts",
        )
    if not fleet.hosts:
        raise _no_hosts(fleet)
    chosen = _names(fleet, targets) if targets else set(fleet.hosts)
    chosen -= _names(fleet, exclude or ())
    wanted = [_label(text) for text in labels or ()]
    hosts = [
        host
        for host in fleet.hosts.values()
        if host.name in chosen and all(host.labels.get(key) == value for key, value in wanted)
    ]
    if not hosts:
        raise UsageError(f"no host is left of {_said(targets, exclude, labels)}", code="no-hosts", next="bbctl hosts")
    return hosts


def single(fleet: Fleet, target: str) -> Host:
    """The one host meant. Raises UsageError where the word means several."""
    hosts = select(fleet, [target])
    if len(hosts) > 1:
        raise UsageError(
            f"{shown(target)} means {len(hosts)} hosts, one is needed: {', '.join(h.name for h in hosts[:5])}",
            code="ambiguous-target",
            next=f"bbctl hosts {target}",
        )
    return hosts[0]


# -- words -------------------------------------------------------------------------------------------------------


def _names(fleet: Fleet, texts: Iterable[str]) -> set[str]:
    index = _Index(fleet)
    found: set[str] = set()
    for text in texts:
        words = split_commas(text)
        if not words:
            raise UsageError(f"{shown(text)} names no host", code="unknown-target", next="bbctl hosts")
        for word in words:
            found |= index.word(word)
    return found


class _Index:
    """Every word that may stand for hosts, looked up once per command."""

    def __init__(self, fleet: Fleet) -> None:
        self._groups = fleet.groups
        self._hosts: dict[str, list[str]] = {name: [name] for name in fleet.hosts}
        for name, host in fleet.hosts.items():
            for alias in host.aliases:
                self._hosts.setdefault(alias, [name])
        shorts: dict[str, list[str]] = {}
        for name, host in fleet.hosts.items():
            shorts.setdefault(host.short, []).append(name)
        for short, names in shorts.items():
            self._hosts.setdefault(short, names)

    def word(self, word: str) -> set[str]:
        if word in self._groups:
            return set(self._groups[word])
        if word.startswith("@"):
            return self._group(word[1:])
        try:
            names = expand(word)
        except ValueError as error:
            raise UsageError(f"{shown(word)}: {error}", code="bad-target", next="bbctl hosts") from None
        return {host for name in names for host in self._host(name, word)}

    def _group(self, name: str) -> set[str]:
        groups = self._groups
        fits = [group for group in groups if _glob(name).fullmatch(group)] if _is_glob(name) else [name]
        if not fits or fits[0] not in groups:
            known = hint(name, groups) or f": groups are {', '.join(groups) or 'none'}"
            raise UsageError(f"unknown group {shown(name)}{known}", code="unknown-target", next="bbctl hosts")
        return {host for group in fits for host in groups[group]}

    def _host(self, name: str, word: str) -> list[str]:
        if _is_glob(name):
            pattern = _glob(name)
            found = [host for known, hosts in self._hosts.items() if pattern.fullmatch(known) for host in hosts]
            if not found:
                raise UsageError(f"{shown(word)} matches no host", code="unknown-target", next="bbctl hosts")
            return found
        hosts = self._hosts.get(name, [])
        if len(hosts) > 1:
            said = f"{shown(name)} is the first label of several hosts: {', '.join(hosts[:5])}"
            raise UsageError(said, code="ambiguous-target", next=f"bbctl hosts '{name}.*'")
        if not hosts:
            within = f" (of {shown(word)})" if name != word else ""
            near = hint(name, [*self._hosts, *self._groups])
            raise UsageError(
                f"unknown host or group {shown(name)}{within}{near}", code="unknown-target", next="bbctl hosts"
            )
        return hosts


def _is_glob(text: str) -> bool:
    return "*" in text or "?" in text


def _glob(text: str) -> re.Pattern[str]:
    """Only `*` and `?` mean anything, and a run of stars is one: no pattern takes long."""
    parts = re.split(r"([*]+|[?])", text)
    return re.compile("".join({"*": ".*", "?": "."}.get(part[:1], re.escape(part)) for part in parts), re.DOTALL)


def _label(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UsageError(f"-l {shown(text)}: expected key=value", code="bad-target", next="bbctl hosts -o json")
    return key, value


# -- messages ----------------------------------------------------------------------------------------------------


def _no_hosts(fleet: Fleet) -> UsageError:
    if fleet.source is None:
        return UsageError(
            "there is no inventory, so no host", code="no-inventory", next="bbctl init DIR · or -i FILE · or -i lab"
        )
    return UsageError(f"{fleet.source} names no host", code="no-hosts", next="bbctl config check")


def _said(targets: Sequence[str] | None, exclude: Sequence[str] | None, labels: Sequence[str] | None) -> str:
    parts = [" ".join(targets) if targets else "all hosts"]
    parts += [f"without {word}" for word in exclude or ()]
    parts += [f"with label {word}" for word in labels or ()]
    return ", ".join(shown(part).strip('"') for part in parts)
