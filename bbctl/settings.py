"""The one way to get a setting, and where it came from: flag > environment > inventory > default.

Made once per command from its flags and the environment; reads the inventory when first asked for it.
"""

from __future__ import annotations

import os
import pwd
import re
import socket
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

from bbctl.errors import ConfigError
from bbctl.inventory import fleet as inventory
from bbctl.model import Fleet

Auth = Literal["compatible", "strict"]
FOLDER = Path(__file__).parent
STORE_SCHEMES = {"mongo": ("mongodb", "mongodb+srv"), "redis": ("redis", "rediss", "unix")}
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, kw_only=True)
class Setting:
    """`source`: `flag`, `environment BBCTL_…`, `FILE` or `default`."""

    key: str
    value: str
    source: str


@dataclass(frozen=True, kw_only=True)
class Stores:
    """URLs with their passwords; None where nothing names that store. Both None: the embedded ones are used."""

    mongo: str | None
    redis: str | None

    @property
    def named(self) -> bool:
        return self.mongo is not None or self.redis is not None


@dataclass(frozen=True)
class Settings:
    """Everything a command may ask for. All methods raise ConfigError where a setting is wrong."""

    environ: Mapping[str, str]
    inventory_flag: str | None = None
    output: str = "table"
    _cache: dict[str, Fleet] = field(default_factory=dict, repr=False)

    # -- state

    def home(self) -> Path:
        """`$BBCTL_HOME`, made with mode 0700 where it is missing. One that others may write to is refused."""
        path = Path(self.home_setting().value)
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            status = path.stat()
            if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                raise ConfigError(f"{path}: others may write to it", next=f"chmod 700 {path}")
            if status.st_mode & 0o077 and status.st_uid == os.geteuid() and not any(path.iterdir()):
                path.chmod(0o700)
        except OSError as error:
            said = f"{path}: cannot be used for state: {error.strerror or error}"
            raise ConfigError(said, next="set BBCTL_HOME to a folder of yours") from None
        return path

    def home_setting(self) -> Setting:
        said = self.environ.get("BBCTL_HOME")
        if said:
            return Setting(key="home", value=str(self._path(said).absolute()), source="environment BBCTL_HOME")
        return Setting(key="home", value=str(self.user_home() / ".local/state/bbctl"), source="default")

    def user_home(self) -> Path:
        """The user's home, also under cron, where HOME may be unset."""
        if self.environ.get("HOME"):
            return Path(self.environ["HOME"])
        try:
            return Path(pwd.getpwuid(os.geteuid()).pw_dir)
        except KeyError:
            return Path("/")

    # -- inventory

    def inventory(self) -> Setting:
        """Which file. Value `none`: no file at all, on purpose or because there is none."""
        for word, source in (
            (self.inventory_flag, "flag"),
            (self.environ.get("BBCTL_INVENTORY"), "environment BBCTL_INVENTORY"),
        ):
            if word:
                return Setting(key="inventory", value=self._inventory_path(word), source=source)
        for path in self._usual_inventories():
            if path.exists():
                _not_planted(path)
                return Setting(key="inventory", value=str(path), source="default")
        return Setting(key="inventory", value="none", source="default")

    def fleet(self) -> Fleet:
        """The inventory, read once; empty where there is none."""
        where = self.inventory().value
        if where not in self._cache:
            self._cache[where] = inventory.NO_FLEET if where == "none" else inventory.load(Path(where), self.environ)
        return self._cache[where]

    def _inventory_path(self, word: str) -> str:
        if word == "none":
            return "none"
        if word != "lab":
            return str(self._path(word))
        path = Path(self.home_setting().value) / "lab" / "inventory.yml"
        if not path.exists():
            raise ConfigError("there is no lab", code="no-lab", next="bbctl lab up")
        return str(path)

    def _usual_inventories(self) -> tuple[Path, ...]:
        return (
            Path("inventory.yml"),
            self.user_home() / ".config/bbctl/inventory.yml",
            Path("/etc/bbctl/inventory.yml"),
        )

    def _path(self, text: str) -> Path:
        if text == "~" or text.startswith("~/"):
            return self.user_home() / text[2:]
        return Path(text)

    # -- who

    def operator(self) -> str:
        """Who is acting, with the machine: `ann@ops1`."""
        name = self.operator_setting().value
        return name if "@" in name else f"{name}@{machine()}"

    def operator_setting(self) -> Setting:
        for variable in ("BBCTL_OPERATOR", "SUDO_USER"):
            name = _one_word(self.environ.get(variable, ""))
            if name:
                return Setting(key="operator", value=name, source=f"environment {variable}")
        return Setting(
            key="operator", value=_one_word(inventory.login_name(self.environ)) or "unknown", source="default"
        )

    # -- engine

    def stores(self) -> Stores:
        """Which stores are named, by environment or inventory."""
        return Stores(mongo=self._store("mongo"), redis=self._store("redis"))

    def store_setting(self, name: str) -> Setting:
        """`name` is mongo or redis; the value still holds its password, and is empty where nothing is named."""
        variable = f"BBCTL_{name.upper()}_URL"
        if said := self.environ.get(variable):
            if urlsplit_scheme(said) not in STORE_SCHEMES[name]:
                raise ConfigError(
                    f"{variable}: expected a {STORE_SCHEMES[name][0]}:// URL", next=f"export {variable}=…"
                )
            return Setting(key=f"stores.{name}", value=said, source=f"environment {variable}")
        fleet = self.fleet()
        if name in fleet.stores:
            return Setting(key=f"stores.{name}", value=fleet.stores[name], source=str(fleet.source))
        return Setting(key=f"stores.{name}", value="", source="default")

    def _store(self, name: str) -> str | None:
        return self.store_setting(name).value or None

    def auth(self, *, host: str, flag: str | None = None) -> Auth:
        """How the HTTP API asks for tokens. `compatible` is the default on loopback; any other address must be told."""
        said, source = (flag, "--auth") if flag else (self.environ.get("BBCTL_AUTH"), "BBCTL_AUTH")
        if said == "compatible":
            return "compatible"
        if said == "strict":
            return "strict"
        if said:
            raise ConfigError(f"{source}: expected compatible or strict", next="bbctl serve --auth strict")
        if host in LOOPBACK or host.startswith("127."):
            return "compatible"
        raise ConfigError(
            f"{host} is not loopback: say how clients prove who they are", code="auth-needed",
            next="bbctl serve --auth strict · or compatible, behind a wall of your own",
        )  # fmt: skip

    # -- playbooks and runbook

    def playbooks(self) -> Setting:
        """The folder: from the environment, beside the inventory, or the shipped one."""
        if said := self.environ.get("BBCTL_PLAYBOOKS"):
            return Setting(key="playbooks", value=str(self._path(said)), source="environment BBCTL_PLAYBOOKS")
        where = self.inventory().value
        beside = Path(where).absolute().parent / "playbooks"
        if where != "none" and beside.is_dir():
            return Setting(key="playbooks", value=str(beside), source="beside the inventory")
        return Setting(key="playbooks", value=str(shipped("playbooks")), source="default")

    def runbook(self) -> Path:
        """The page: beside the inventory, or the shipped one."""
        where = self.inventory().value
        beside = Path(where).absolute().parent / "RUNBOOK.md"
        return beside if where != "none" and beside.is_file() else shipped("RUNBOOK.md")


def load(environ: Mapping[str, str], *, inventory: str | None = None, output: str = "table") -> Settings:
    """The settings of one command: its flags and the environment."""
    return Settings(dict(environ), inventory, output)


def shipped(name: str) -> Path:
    """A file or folder that travels with bbctl: from the installed package, else from the source tree beside it."""
    packaged = FOLDER / "shipped" / name
    return packaged if packaged.exists() else FOLDER.parent / name


def _not_planted(path: Path) -> None:
    """An inventory may name commands that run here: one that merely lies about where anyone may put it is not taken."""
    folder, file = path.absolute().parent.stat(), path.stat()
    if folder.st_mode & stat.S_IWOTH and file.st_uid not in (0, os.geteuid()):
        said = f"{path}:1: belongs to somebody else, in a folder that anyone may write to: refused"
        raise ConfigError(said, next=f"bbctl -i {path} hosts · -i takes it on purpose")


def machine() -> str:
    """This machine's short name."""
    return _one_word(socket.gethostname().split(".")[0]) or "localhost"


def masked(url: str) -> str:
    """A URL with its password (and a user without one that stands for a token) replaced by `***`."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "***"
    userinfo, at, rest = parts.netloc.rpartition("@")
    if not at:
        return url
    user, colon, _ = userinfo.partition(":")
    return urlunsplit(parts._replace(netloc=f"{user}{':***' if colon else ''}@{rest}"))


def urlsplit_scheme(url: str) -> str:
    return url.partition("://")[0].lower() if "://" in url else ""


def _one_word(text: str) -> str:
    """A name fit to stand in records and on other people's screens."""
    return re.sub(r"[^\w.@+-]", "", text)[:64]
