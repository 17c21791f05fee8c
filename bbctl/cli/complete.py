"""What the Tab key asks: answered from the table of commands and a cache, before anything heavy is imported.

The cache below `$BBCTL_HOME/cache` is one small JSON file for each inventory and each command's options, made anew when
the file behind it changes, and a list of the workflow ids that commands have shown lately.
"""

from __future__ import annotations

import json
import os
import sys
import zlib
from collections.abc import Mapping
from pathlib import Path

from bbctl.cli.table import COMMANDS, NOUNS

HOST_COMMANDS = (
    "diagnose", "status", "restart", "stop", "start", "kill", "drain", "undrain", "logs", "threads", "shell", "cdl",
    "unlock", "ping", "exec", "sweep", "hosts",
)  # fmt: skip
# What the words after a command are; those that are not here take hosts where they take a TARGET.
TAKES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(HOST_COMMANDS, ("hosts",)),
    "hosts trust": ("hosts",),
    "silence add": ("hosts",),
    "links": ("hosts",),
    "lab break": ("hosts",),
    "lab mend": ("hosts",),
    "playbook show": ("playbooks",),
    "playbook check": ("playbooks",),
    "playbook plan": ("playbooks", "hosts"),
    "playbook run": ("playbooks", "hosts"),
    **dict.fromkeys(("runs show", "runs resume", "runs abort"), ("runs",)),
    **dict.fromkeys((name for name in COMMANDS if name.startswith("workflow ")), ("workflows",)),
    "completion": ("shells",),
}
OUTPUTS = ("table", "json", "yaml", "name")
EVERYWHERE = ("--inventory", "--output", "--yes", "--help")
SHELLS = ("bash", "zsh", "fish")


def complete(words: list[str]) -> int:
    """Print what may follow, one word a line. `words` are those typed so far; the last is the one begun, maybe empty.

    Never fails, never says anything else: a completion that complains is worse than none.
    """
    try:
        found = candidates(words or [""], os.environ)
    except Exception:
        found = []
    sys.stdout.write("".join(f"{word}\n" for word in found))
    return 0


def candidates(words: list[str], environ: Mapping[str, str]) -> list[str]:
    *before, begun = words
    if "--" in before:
        return []
    if before and before[-1] in ("-i", "--inventory"):
        return [word for word in ("lab", "none") if word.startswith(begun)]
    if before and before[-1] in ("-o", "--output"):
        command, _ = _command(_sorted(before)[1])
        return [word for word in (COMMANDS[command].formats if command else OUTPUTS) if word.startswith(begun)]
    inventory, plain = _sorted(before)
    command, at = _command(plain)
    if begun.startswith("-"):
        flags = _flags(command, _home(environ)) if command else []
        return sorted(word for word in {*EVERYWHERE, *flags} if word.startswith(begun))
    if command is None:
        return sorted(word for word in _next_words(plain) if word.startswith(begun))
    takes = TAKES.get(command, ())
    kind = takes[min(at, len(takes) - 1)] if takes else ""
    verbs = [name.split()[1] for name in COMMANDS if name.startswith(f"{command} ")] if at == 0 else []
    return _lists(begun, [*verbs, *_values(kind, inventory, environ)])


def _sorted(words: list[str]) -> tuple[str | None, list[str]]:
    """The inventory named among the words, and the words that are neither options nor values of ours."""
    inventory, plain, skip = None, [], False
    for at, word in enumerate(words):
        if skip:
            skip = False
        elif word in ("-i", "--inventory", "-o", "--output"):
            skip = True
            if word in ("-i", "--inventory") and at + 1 < len(words):
                inventory = words[at + 1]
        elif not word.startswith("-"):
            plain.append(word)
    return inventory, plain


def _command(plain: list[str]) -> tuple[str | None, int]:
    """The command, and how many words stand behind it."""
    if not plain:
        return None, 0
    first = NOUNS.get(plain[0], plain[0])
    if len(plain) > 1 and f"{first} {plain[1]}" in COMMANDS:
        return f"{first} {plain[1]}", len(plain) - 2
    return (first, len(plain) - 1) if first in COMMANDS else (None, 0)


def _next_words(plain: list[str]) -> set[str]:
    if not plain:
        return {name.split()[0] for name in COMMANDS} | {"wf"}
    first = NOUNS.get(plain[0], plain[0])
    return {name.split()[1] for name in COMMANDS if name.startswith(f"{first} ")} if len(plain) == 1 else set()


def _lists(begun: str, values: list[str]) -> list[str]:
    """Candidates for the last member of a list with commas."""
    head, comma, last = begun.rpartition(",")
    fit = [value for value in dict.fromkeys(values) if value.startswith(last) and (last or not value.startswith("@"))]
    return [f"{head}{comma}{value}" for value in fit]


# -- values ------------------------------------------------------------------------------------------------------


def _values(kind: str, inventory: str | None, environ: Mapping[str, str]) -> list[str]:
    home = _home(environ)
    if kind in ("hosts", "playbooks"):
        return _fleet(home, inventory, environ)[kind]
    if kind == "runs":
        return sorted((path.name for path in (home / "runs").iterdir()), reverse=True)
    if kind == "workflows":
        return (home / "cache" / "workflows").read_text("utf-8").split()
    return list(SHELLS) if kind == "shells" else []


def _home(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("BBCTL_HOME") or Path(environ.get("HOME") or "~").expanduser() / ".local/state/bbctl")


def _flags(command: str, home: Path) -> list[str]:
    """The long options of a command: asked of it once, then kept until its file changes."""
    module = Path(__file__).with_name(COMMANDS[command].where.split(":")[0] + ".py")
    cache = home / "cache" / f"flags-{command.replace(' ', '-')}.json"
    stamp = _stamp(module)
    kept = _kept(cache, stamp)
    if kept is None:
        kept = {"flags": _read_flags(command)}
        _keep(cache, {"stamp": stamp} | kept)
    return kept["flags"]


def _read_flags(command: str) -> list[str]:
    import typer

    from bbctl.cli.app import load

    app = typer.Typer(add_completion=False)
    app.command(name=command)(load(COMMANDS[command]))
    params = typer.main.get_command(app).params
    return sorted({word for param in params for word in (*param.opts, *param.secondary_opts) if word.startswith("--")})


def _fleet(home: Path, inventory: str | None, environ: Mapping[str, str]) -> dict[str, list[str]]:
    """Host names, aliases and groups, and playbooks: from the cache where the inventory is still the same file."""
    where = _where(home, inventory, environ)
    stamp = [*_stamp(where), environ.get("BBCTL_PLAYBOOKS", "")]
    cache = home / "cache" / f"fleet-{zlib.crc32(str(where).encode()):x}.json"
    kept = _kept(cache, stamp)
    if kept is None:
        kept = _read_fleet(inventory, environ)
        _keep(cache, {"stamp": stamp} | kept)
    return kept


def _kept(cache: Path, stamp: list[str]) -> dict[str, list[str]] | None:
    """What was kept under the same stamp; None for anything else."""
    try:
        kept: dict[str, list[str]] = json.loads(cache.read_text("utf-8"))
        return kept if kept["stamp"] == stamp else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _where(home: Path, inventory: str | None, environ: Mapping[str, str]) -> Path:
    word = inventory or environ.get("BBCTL_INVENTORY")
    if word == "lab":
        return home / "lab" / "inventory.yml"
    if word:
        return Path(word).expanduser().absolute()
    usual = (
        Path("inventory.yml"),
        Path("~/.config/bbctl/inventory.yml").expanduser(),
        Path("/etc/bbctl/inventory.yml"),
    )
    return next((path.absolute() for path in usual if path.exists()), Path("none"))


def _stamp(path: Path) -> list[str]:
    parts = [str(path)]
    for each in (path, path.parent / "playbooks"):
        try:
            status = each.stat()
            parts.append(f"{status.st_mtime_ns}:{status.st_size}:{status.st_ino}")
        except OSError:
            parts.append("none")
    return parts


def _read_fleet(inventory: str | None, environ: Mapping[str, str]) -> dict[str, list[str]]:
    from bbctl.settings import load

    settings = load(dict(environ), inventory=inventory)
    fleet = settings.fleet()
    aliases = [alias for host in fleet.hosts.values() for alias in host.aliases]
    shorts = [host.short for host in fleet.hosts.values()]
    playbooks = sorted(path.stem for path in Path(settings.playbooks().value).glob("*.yml"))
    groups = [*fleet.groups, *(f"@{name}" for name in fleet.groups)]
    return {"hosts": [*groups, *dict.fromkeys(shorts), *aliases, *fleet.hosts], "playbooks": playbooks}


def _keep(cache: Path, value: Mapping[str, object]) -> None:
    cache.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = cache.with_suffix(f".{os.getpid()}")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        json.dump(value, file)
    os.replace(fresh, cache)


def remember_workflows(home: Path, ids: list[str], *, most: int = 500) -> None:
    """Ids that a command has just shown, newest first, for the next Tab. Never fails the command that shows them."""
    path = home / "cache" / "workflows"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        old = path.read_text("utf-8").split() if path.exists() else []
        fresh = path.with_suffix(f".{os.getpid()}")
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.write("\n".join(list(dict.fromkeys([*ids, *old]))[:most]) + "\n")
        os.replace(fresh, path)
    except OSError:
        return
