"""hosts, config, init, explain, links and runbook as they are called."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bbctl.cli.app import run

INVENTORY = """\
site: snc1
groups: {workers: {hosts: "w{1-2}.snc1", services: jboss, vip: v}}
hosts: {w1.snc1: {address: 10.0.0.1, port: 2222, labels: {rack: a}}}
services: {jboss: {log: /x}}
vips: {v: {drain: {kind: file, path: /hb}}}
links: {splunk: "https://s", graph: "https://g/{name}"}
"""


class Bbctl:
    """Calls bbctl in this process with an inventory of its own."""

    def __init__(self, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
        self.path = folder / "inventory.yml"
        self.write(INVENTORY)
        self._capfd = capfd

    def write(self, text: str) -> None:
        self.path.write_text(text)
        self.path.chmod(0o600)

    def __call__(self, *words: str) -> tuple[int, str, str]:
        code = run(["-i", str(self.path), *words])
        out, err = self._capfd.readouterr()
        return code, out, err

    def json(self, *words: str) -> Any:
        code, out, err = self(*words, "-o", "json")
        assert code == 0, err
        return json.loads(out)


@pytest.fixture
def bbctl(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Bbctl:
    monkeypatch.setenv("BBCTL_HOME", str(tmp_path / "state"))
    for name in ("BBCTL_OUTPUT", "BBCTL_MONGO_URL", "BBCTL_REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    return Bbctl(tmp_path, capfd)


def test_hosts_are_shown_with_all_that_programs_were_promised(bbctl: Bbctl) -> None:
    first, second = bbctl.json("hosts", "workers")
    promised = {"name": "w1.snc1", "address": "10.0.0.1", "port": 2222, "groups": ["workers"], "services": ["jboss"]}
    assert promised.items() <= first.items()
    assert first["labels"] == {"rack": "a"}
    assert second["address"] == "w2.snc1"
    assert bbctl("hosts", "-l", "rack=a", "-o", "name") == (0, "w1.snc1\n", "")
    code, out, _ = bbctl("host", "w2")
    assert code == 0
    assert "w2.snc1" in out
    assert "jboss (v)" in out


def test_an_unknown_host_is_a_usage_error_in_json_too(bbctl: Bbctl) -> None:
    code, out, _ = bbctl("hosts", "workerz", "-o", "json")
    error = json.loads(out)["error"]
    assert code == 2
    assert error["code"] == "unknown-target"
    assert "did you mean workers" in error["message"]


def test_config_check_counts_what_there_is_and_names_the_line_of_what_is_wrong(bbctl: Bbctl) -> None:
    code, out, _ = bbctl("config", "check")
    assert code == 0
    assert out == f"{bbctl.path} ok · snc1 · 2 hosts, 1 group, 1 service, 1 VIP\n"
    bbctl.write(INVENTORY.replace("rack: a", "rack: a, rack: b"))
    code, out, err = bbctl("config", "check")
    assert (code, out) == (2, "")
    assert f"{bbctl.path}:3: duplicate key" in err


def test_config_show_says_where_each_value_comes_from(bbctl: Bbctl) -> None:
    rows = {row["key"]: row for row in bbctl.json("config", "show")}
    assert rows["site"] == {"key": "site", "value": "snc1", "source": f"{bbctl.path}:1"}
    assert rows["inventory"]["source"] == "flag"


def test_config_schema_is_a_json_schema_that_knows_every_top_level_key(bbctl: Bbctl) -> None:
    schema = json.loads(bbctl("config", "schema")[1])
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert {"site", "ssh", "stores", "groups", "hosts", "services", "vips", "links", "alerts", "lock"} <= set(
        schema["properties"]
    )


def test_init_writes_a_valid_sample_once(bbctl: Bbctl, tmp_path: Path) -> None:
    code, _, _ = bbctl("init", str(tmp_path / "new"))
    assert code == 0
    path = tmp_path / "new/inventory.yml"
    assert run(["-i", str(path), "config", "check"]) == 0
    before = path.read_text()
    code, _, err = bbctl("init", str(tmp_path / "new"))
    assert code == 2
    assert "there already" in err
    assert path.read_text() == before


def test_the_shipped_runbook_tells_the_truth_about_a_fresh_sample(bbctl: Bbctl, tmp_path: Path) -> None:
    assert bbctl("init", str(tmp_path / "new"))[0] == 0
    assert run(["-i", str(tmp_path / "new/inventory.yml"), "runbook", "check"]) == 0


def test_a_soak_without_a_canary_is_refused_and_names_both(bbctl: Bbctl) -> None:
    code, _, err = bbctl("restart", "workers", "--soak", "2m", "--dry-run")
    assert (code, "--soak" in err, "--canary" in err) == (2, True, True), err


def test_links_are_general_ones_and_those_of_hosts(bbctl: Bbctl) -> None:
    assert [row["url"] for row in bbctl.json("links")] == ["https://s", "https://g/w1.snc1", "https://g/w2.snc1"]
    assert [row["url"] for row in bbctl.json("links", "w2")] == ["https://g/w2.snc1"]
    assert [row["url"] for row in bbctl.json("links", "splunk")] == ["https://s"]
    assert bbctl("links", "splank")[0] == 2


def test_a_code_is_explained_and_an_unknown_one_names_the_nearest(bbctl: Bbctl) -> None:
    assert bbctl.json("explain", "locked")["exit"] == 3
    assert "runbook show" in bbctl.json("explain", "hung-stop")["do"]
    code, _, err = bbctl("explain", "lockd")
    assert code == 2
    assert "did you mean locked" in err


def test_a_runbook_entry_is_shown_by_the_old_anchor(bbctl: Bbctl) -> None:
    shown = bbctl.json("runbook", "show", "restart_jboss")
    assert shown["severity"] == 3
    assert "something_jboss" in shown["directions"]["text"]
    assert bbctl("runbook", "search", "hornetq")[0] == 0
    assert bbctl("runbook", "search", "no such text at all")[0] == 1


def test_an_error_of_a_file_says_how_to_open_it_where_it_is_wrong(bbctl: Bbctl) -> None:
    bbctl.write("site: snc1\ngruops: {}\n")
    code, out, _ = bbctl("config", "check", "-o", "json")
    assert (code, json.loads(out)["error"]["next"]) == (2, f"vi +2 {bbctl.path}")


def test_a_playbook_that_is_wrong_does_not_hide_the_others(bbctl: Bbctl) -> None:
    folder = bbctl.path.parent / "playbooks"
    folder.mkdir()
    (folder / "bad.yml").write_text("name: bad\nsteps: [dance]\n")
    (folder / "good.yml").write_text("name: good\nsteps: [stop, start]\n")
    code, out, _ = bbctl("playbook", "list", "-o", "json")
    rows = {row["name"]: row for row in json.loads(out)}
    assert code == 2
    assert rows["bad"]["error"].startswith(f"{folder / 'bad.yml'}:2: ")
    assert {rows[name]["error"] for name in ("good", "restart")} == {None}
    assert "dance" in bbctl("playbook", "list")[1]


@pytest.mark.parametrize(
    "words",
    [
        ("exec", "w1", "--timeout", "5", "--", "x"),
        ("restart", "w1", "--force", "--yes"),
        ("silence", "add", "w1", "--for", "1h"),
        ("workflow", "list", "--since", "tomorow"),
        ("workflow", "list", "--status", "gone"),
        ("client", "add", "n", "--timeout", "5"),
    ],
)
def test_a_word_that_cannot_be_meant_is_answered_with_the_help_of_its_command_and_starts_nothing(
    bbctl: Bbctl, words: tuple[str, ...], tmp_path: Path
) -> None:
    code, out, err = bbctl(*words)
    assert (code, out) == (2, "")
    command = " ".join(words[: 2 if words[0] in ("silence", "workflow", "client") else 1])
    assert err.splitlines()[-1].startswith("next ")
    assert err.splitlines()[-1].endswith(f" {command} --help")
    assert not (tmp_path / "state/stores").exists()
