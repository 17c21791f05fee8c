"""Where a value comes from: flag, environment, inventory, default."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from bbctl import effective
from bbctl.errors import ConfigError
from bbctl.settings import load, masked, shipped

INVENTORY = "site: x\nstores: {mongo: 'mongodb://u:s3cr3t@h/b', redis: 'redis://:s3cr3t@h/0'}\nhosts: {a: }\n"


@pytest.fixture
def environ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A user with a home of their own, standing in an empty folder."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return {"HOME": str(tmp_path / "user"), "USER": "ann", "BBCTL_HOME": str(tmp_path / "state")}


def written(path: Path, text: str = INVENTORY) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o600)
    return path


def test_the_inventory_is_the_flags_then_the_environments_then_the_usual_ones(
    environ: dict[str, str], tmp_path: Path
) -> None:
    flag, named = written(tmp_path / "flag.yml"), written(tmp_path / "named.yml")
    users = written(tmp_path / "user/.config/bbctl/inventory.yml")
    assert load(environ).inventory().value == str(users)
    here = written(Path("inventory.yml"))
    assert load(environ).inventory().value == str(here)
    environ["BBCTL_INVENTORY"] = str(named)
    assert load(environ).inventory().value == str(named)
    found = load(environ, inventory=str(flag)).inventory()
    assert (found.value, found.source) == (str(flag), "flag")


def test_none_means_no_file_and_lab_means_the_labs(environ: dict[str, str], tmp_path: Path) -> None:
    written(Path("inventory.yml"))
    assert load(environ, inventory="none").fleet().hosts == {}
    with pytest.raises(ConfigError, match="there is no lab") as caught:
        load(environ, inventory="lab").fleet()
    assert caught.value.next == "bbctl lab up"
    lab = written(tmp_path / "state/lab/inventory.yml")
    assert load(environ, inventory="lab").fleet().source == lab


def test_an_inventory_that_is_named_and_missing_is_an_error_and_not_an_empty_fleet(environ: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load(environ, inventory="missing.yml").fleet()


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_an_inventory_that_somebody_else_left_where_anyone_may_write_is_not_taken_by_itself(
    environ: dict[str, str], tmp_path: Path
) -> None:
    os.chown(written(Path("inventory.yml")), 12345, 12345)
    assert load(environ).fleet().site == "x"
    (tmp_path / "here").chmod(0o1777)
    with pytest.raises(ConfigError, match="belongs to somebody else"):
        load(environ).fleet()
    assert load(environ, inventory="inventory.yml").fleet().site == "x"


def test_the_home_is_made_for_its_owner_alone(environ: dict[str, str], tmp_path: Path) -> None:
    home = load(environ).home()
    assert home == tmp_path / "state"
    assert stat.S_IMODE(home.stat().st_mode) == 0o700


def test_a_home_that_others_may_write_to_is_refused(environ: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state").chmod(0o777)
    with pytest.raises(ConfigError, match="others may write to it") as caught:
        load(environ).home()
    assert "chmod 700" in str(caught.value.next)


def test_an_empty_home_that_others_may_read_is_closed_to_them(environ: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o755)
    assert stat.S_IMODE(load(environ).home().stat().st_mode) == 0o700


def test_without_bbctl_home_state_lies_below_the_users_home(environ: dict[str, str], tmp_path: Path) -> None:
    del environ["BBCTL_HOME"]
    assert load(environ).home_setting().value == str(tmp_path / "user/.local/state/bbctl")
    del environ["HOME"]
    assert load(environ).home_setting().value.endswith("/.local/state/bbctl")


def test_the_operator_is_named_then_whoever_called_sudo_then_the_login_always_with_the_machine(
    environ: dict[str, str],
) -> None:
    assert load(environ).operator().startswith("ann@")
    assert load(environ | {"SUDO_USER": "bob"}).operator().startswith("bob@")
    assert load(environ | {"SUDO_USER": "bob", "BBCTL_OPERATOR": "eve\x1b[2J\n"}).operator().startswith("eve2J@")


def test_a_store_of_the_environment_wins_over_the_inventorys(environ: dict[str, str]) -> None:
    written(Path("inventory.yml"))
    assert load(environ).stores().mongo == "mongodb://u:s3cr3t@h/b"
    environ["BBCTL_MONGO_URL"] = "mongodb://other/b"
    stores = load(environ).stores()
    assert (stores.mongo, stores.redis, stores.named) == ("mongodb://other/b", "redis://:s3cr3t@h/0", True)
    assert not load({"HOME": "/nowhere"}, inventory="none").stores().named


def test_a_store_that_is_no_url_is_refused_without_repeating_it(environ: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"BBCTL_MONGO_URL: expected a mongodb:// URL") as caught:
        load(environ | {"BBCTL_MONGO_URL": "http://u:s3cr3t@h"}).stores()
    assert "s3cr3t" not in caught.value.message


def test_an_api_on_loopback_is_compatible_and_any_other_address_must_be_told(environ: dict[str, str]) -> None:
    assert load(environ).auth(host="127.0.0.1") == "compatible"
    assert load(environ | {"BBCTL_AUTH": "strict"}).auth(host="127.0.0.1") == "strict"
    assert load(environ | {"BBCTL_AUTH": "strict"}).auth(host="0.0.0.0", flag="compatible") == "compatible"
    with pytest.raises(ConfigError, match="not loopback"):
        load(environ).auth(host="0.0.0.0")
    with pytest.raises(ConfigError, match="expected compatible or strict"):
        load(environ | {"BBCTL_AUTH": "open"}).auth(host="127.0.0.1")


def test_playbooks_are_the_environments_then_those_beside_the_inventory_then_the_shipped(
    environ: dict[str, str], tmp_path: Path
) -> None:
    assert load(environ).playbooks().value == str(shipped("playbooks"))
    written(tmp_path / "fleet/inventory.yml")
    (tmp_path / "fleet/playbooks").mkdir()
    assert load(environ, inventory=str(tmp_path / "fleet/inventory.yml")).playbooks().value == str(
        tmp_path / "fleet/playbooks"
    )
    assert load(environ | {"BBCTL_PLAYBOOKS": "/p"}).playbooks().value == "/p"


def test_every_value_is_shown_with_its_source_and_no_secret(environ: dict[str, str]) -> None:
    written(
        Path("inventory.yml"),
        INVENTORY + "alerts: {webhook: {url: 'https://hooks.x/T0/s3cr3t'}}\nlock: {expires: 1m}\n",
    )
    found = {value.key: value for value in effective.values(load(environ))}
    assert found["stores.mongo"].value == "mongodb://u:***@h/b"
    assert found["alerts.webhook.url"].value == "https://hooks.x/***"
    assert (found["lock.expires"].value, found["lock.expires"].source) == ("1m", "inventory.yml:5")
    assert (found["lock.path"].value, found["lock.path"].source) == ("~/.bbctl/lock", "default")
    assert found["home"].source == "environment BBCTL_HOME"
    assert not any("s3cr3t" in value.value for value in found.values())


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:pw@h:6379/0", "redis://:***@h:6379/0"),
        ("mongodb://u:p%40w@a,b,c/d?x=y", "mongodb://u:***@a,b,c/d?x=y"),
        ("mongodb://h/d", "mongodb://h/d"),
        ("http://u:p@w@[::1", "***"),
    ],
)
def test_passwords_in_urls_are_masked(url: str, shown: str) -> None:
    assert masked(url) == shown
