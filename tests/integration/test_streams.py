"""What becomes of the output where nobody reads it, where it has no room, or where there is no such stream at all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BBCTL = [sys.executable, "-m", "bbctl"]
CALLS = [["explain"], ["hosts", "-o", "json"]]  # one through Rich, one of bytes


def call(
    words: list[str], home: Path, redirect: str = "", *, stdout: int = subprocess.PIPE
) -> subprocess.CompletedProcess[str]:
    inventory = home / "inventory.yml"
    inventory.write_text("hosts: {a: {}, b: {}}\n")
    inventory.chmod(0o600)
    environ = {"PATH": os.environ["PATH"], "BBCTL_HOME": str(home / "state"), "BBCTL_INVENTORY": str(inventory)}
    argv = ["sh", "-c", f'exec "$@" {redirect}', "sh", *BBCTL, *words]
    return subprocess.run(
        argv, env=environ, stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=30, check=False, cwd=home
    )


@pytest.mark.parametrize("words", CALLS, ids=" ".join)
@pytest.mark.parametrize("redirect", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_changes_no_outcome(words: list[str], redirect: str, tmp_path: Path) -> None:
    ran = call(words, tmp_path, redirect)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert bool(ran.stdout) is (">&-" not in redirect.replace("2>&-", ""))


@pytest.mark.parametrize("words", CALLS, ids=" ".join)
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device that is always full")
def test_output_without_room_is_told_in_two_lines_and_is_a_failure(words: list[str], tmp_path: Path) -> None:
    ran = call(words, tmp_path, ">/dev/full")
    assert ran.returncode == 1
    assert ran.stderr.startswith("error: ")
    assert "no space is left" in ran.stderr
    assert len(ran.stderr.splitlines()) == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device that is always full")
def test_an_error_that_finds_no_room_keeps_its_exit_code_and_is_said_on_stderr(tmp_path: Path) -> None:
    ran = call(["hosts", "nobody", "-o", "json"], tmp_path, ">/dev/full")
    assert ran.returncode == 2
    assert ran.stderr.startswith('error: unknown host or group "nobody"')


@pytest.mark.parametrize("words", CALLS, ids=" ".join)
def test_a_reader_that_went_away_ends_it_quietly_with_the_same_code_everywhere(
    words: list[str], tmp_path: Path
) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb"):
        ran = call(words, tmp_path, stdout=write)
    assert (ran.returncode, ran.stderr) == (141, "")


def test_errors_of_logs_and_of_whatever_is_watched_are_json_lines_too(tmp_path: Path) -> None:
    for words in (["logs", "nobody"], ["log", "nobody"], ["status", "nobody", "-w"], ["status", "nobody", "--watch"]):
        ran = call([*words, "-o", "json"], tmp_path)
        assert ran.returncode == 2
        (line,) = ran.stdout.splitlines()
        assert json.loads(line)["error"]["code"] == "unknown-target"


@pytest.mark.parametrize("words", [[], ["runs"], ["workflow"]], ids=str)
def test_where_json_is_due_a_missing_command_is_an_error_and_no_help(words: list[str], tmp_path: Path) -> None:
    ran = call([*words, "-o", "json"], tmp_path)
    assert (ran.returncode, json.loads(ran.stdout)["error"]["code"], ran.stderr) == (2, "usage", "")
    plain = call(words, tmp_path)
    assert (plain.returncode, "bbctl" in plain.stdout) == (2, True)


def test_a_ctrl_c_while_it_is_still_loading_leaves_no_traceback(tmp_path: Path) -> None:
    """A module that the front door needs is replaced by one that is interrupted as it is imported."""
    (tmp_path / "difflib.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path), "BBCTL_HOME": str(tmp_path / "state")}
    ran = subprocess.run(
        [*BBCTL, "hosts"], env=environ, capture_output=True, text=True, timeout=30, check=False, cwd=tmp_path
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (130, "", "error: interrupted\n")


def python(code: str, home: Path) -> subprocess.CompletedProcess[str]:
    environ = {"PATH": os.environ["PATH"], "BBCTL_HOME": str(home / "state"), "BBCTL_INVENTORY": "none"}
    return subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, timeout=30, check=False
    )


def test_a_ctrl_c_while_the_interpreter_ends_takes_nothing_back(tmp_path: Path) -> None:
    """Sent by the last thing that an ending interpreter calls."""
    code = """if True:
    import atexit, os, signal, sys
    from bbctl.__main__ import main
    atexit.register(lambda: os.kill(os.getpid(), signal.SIGINT))
    sys.argv = ["bbctl", "config", "show", "-o", "json"]
    main()"""
    ran = python(code, tmp_path)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert {row["key"] for row in json.loads(ran.stdout)} >= {"inventory"}


@pytest.mark.parametrize(("words", "told"), [(["-o", "json"], 1), ([], 0)])
def test_a_ctrl_c_within_a_command_is_told_and_with_json_as_a_document(
    words: list[str], told: int, tmp_path: Path
) -> None:
    """The command's own look at its settings is interrupted; by way of another error, as the making of a class gives."""
    code = f"""if True:
    import os, signal, sys
    from bbctl.settings import Settings
    def cut(self):
        try:
            os.kill(os.getpid(), signal.SIGINT)
            while True: pass
        except BaseException as error:
            if {told}: raise
            raise RuntimeError("a class cannot be made") from error
    Settings.fleet = cut
    from bbctl.__main__ import main
    sys.argv = ["bbctl", "status", *{words}]
    main()"""
    ran = python(code, tmp_path)
    assert (ran.returncode, "Traceback" in ran.stderr, "defect" in ran.stderr) == (130, False, False), ran
    assert [json.loads(ran.stdout)["error"]["code"]] == ["interrupted"] if told else ran.stdout == ""
