"""`ping`, `exec` and `hosts trust` as people and cron call them, against real sshd."""

from __future__ import annotations

import getpass
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.integration.sshd import Farm, farm, processes, wait_for

BBCTL = [sys.executable, "-m", "bbctl"]
ALIVE = tuple(f"h{n}" for n in range(1, 25))


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    with farm(tmp_path_factory.mktemp("cli"), *ALIVE, net=43, settings="MaxStartups 200") as made:
        yield made


@dataclass
class Desk:
    """Somebody at a machine of their own: a home, an inventory, and bbctl."""

    home: Path
    hosts: Farm

    def inventory(self, more: str = "", known_hosts: Path | None = None, timeout: str = "20s") -> None:
        f = self.hosts
        listed = "".join(f"  {name}: {{address: {address}}}\n" for name, address in f.addresses.items())
        path = self.home / "inventory.yml"
        path.write_text(
            f"ssh:\n  user: {getpass.getuser()}\n  port: {f.port}\n  connect_timeout: {timeout}\n"
            f"  identity_file: {f.key}\n  known_hosts: {known_hosts or f.known_hosts}\n"
            f"groups:\n  three: {{hosts: 'h{{1-3}}'}}\n  all: {{hosts: 'h{{1-24}}'}}\nhosts:\n{listed}{more}"
        )
        path.chmod(0o600)

    @property
    def environ(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "BBCTL_HOME": str(self.home / "state"),
            "LANG": "C.UTF-8",
            "TERM": "xterm",
        }

    def start(self, *words: str, environ: dict[str, str] | None = None, **how: Any) -> subprocess.Popen[bytes]:
        how = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **how}
        call = [*BBCTL, "-i", str(self.home / "inventory.yml"), *words]
        return subprocess.Popen(call, env=environ or self.environ, cwd=self.home, **how)

    def run(self, *words: str, **how: Any) -> tuple[int, bytes, bytes]:
        process = self.start(*words, **how)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    def json(self, *words: str) -> tuple[int, Any]:
        cut = words.index("--") if "--" in words else len(words)
        code, out, err = self.run(*words[:cut], "-o", "json", *words[cut:])
        assert b"Traceback" not in err
        return code, json.loads(out)

    def statuses(self, *words: str) -> tuple[int, dict[str, str]]:
        code, rows = self.json(*words)
        return code, {row["host"]: row["status"] for row in rows}

    def terminal(self, *words: str, answer: bytes = b"", when: bytes = b"[y/N]") -> tuple[int, bytes]:
        """On a terminal: the exit code and all that was shown; `answer` is typed when `when` has been shown."""
        pid, descriptor = pty.fork()
        if pid == 0:
            os.chdir(self.home)
            os.execve(BBCTL[0], [*BBCTL, "-i", str(self.home / "inventory.yml"), *words], self.environ)
        shown, end = b"", time.monotonic() + 60
        while time.monotonic() < end:
            if select.select([descriptor], [], [], 0.1)[0]:
                try:
                    data = os.read(descriptor, 65536)
                except OSError:
                    break
                shown += data
            if answer and when in shown:
                os.write(descriptor, answer)
                answer = b""
        _, status = os.waitpid(pid, 0)
        os.close(descriptor)
        return os.waitstatus_to_exitcode(status), shown


@pytest.fixture
def desk(hosts: Farm, tmp_path: Path) -> Desk:
    made = Desk(tmp_path, hosts)
    made.inventory()
    return made


def dead(made: Farm) -> tuple[str, list[str]]:
    """Four hosts, that are dead in four ways: as lines of an inventory, and their names."""
    hole, silent = made.broken("blackhole"), made.broken("silent")
    lines = [
        "  refused: {address: 127.0.43.200, port: 1}",
        "  nodns: {address: no-such-host.invalid}",
        f"  hole: {{address: 127.0.0.1, port: {hole.port}}}",
        f"  silent: {{address: 127.0.0.1, port: {silent.port}}}",
    ]
    return "\n".join(lines) + "\n", ["refused", "nodns", "hole", "silent"]


def test_with_hosts_dead_in_four_ways_every_host_has_a_verdict_and_good_ones_wait_for_nobody(
    desk: Desk, hosts: Farm
) -> None:
    more, names = dead(hosts)
    desk.inventory(more, timeout="8s")
    code, rows = desk.json("exec", "*", "--timeout", "60s", "--", "true")
    found = {row["host"]: row for row in rows}
    assert code == 1
    assert {n: found[n]["status"] for n in names} == dict.fromkeys(names, "unreachable")
    assert [found[n]["error"].split(":")[0] for n in names] == ["connect", "resolve", "connect", "banner"]
    assert all(found[n]["status"] == "ok" for n in ALIVE)


def test_a_ping_of_dead_hosts_only_exits_4(desk: Desk, hosts: Farm) -> None:
    more, names = dead(hosts)
    desk.inventory(more, timeout="1s")
    code, found = desk.statuses("ping", ",".join(names))
    assert code == 4
    assert set(found.values()) == {"unreachable"}


def test_a_ping_logs_in_and_runs_nothing(desk: Desk, hosts: Farm) -> None:
    logins, commands = hosts.logins(), hosts.commands()
    code, rows = desk.json("ping", "three")
    assert code == 0
    assert [set(row) >= {"host", "status", "seconds", "error"} for row in rows] == [True] * 3
    assert (hosts.logins(), hosts.commands()) == (logins + 3, commands)


def test_equal_outputs_are_folded_in_the_table(desk: Desk) -> None:
    code, out, err = desk.run("exec", "all", "--", "echo", "same")
    assert code == 0
    assert out == b"h[1-24] (24)  ok\n  same\n"
    assert err == b"24 of 24 ok\n"


def test_a_failing_host_makes_exit_1_and_keeps_its_own_code(desk: Desk) -> None:
    code, rows = desk.json("exec", "three", "--shell", "--", 'case "$SSH_CONNECTION" in *.43.2\\ *) exit 124;; esac')
    assert code == 1
    assert {row["host"]: (row["status"], row["exit"]) for row in rows} == {
        "h1": ("ok", 0), "h2": ("failed", 124), "h3": ("ok", 0),
    }  # fmt: skip


def test_a_line_for_the_shell_that_was_taken_for_a_program_is_told_how_to_run(desk: Desk) -> None:
    code, _, err = desk.run("exec", "three", "-x", "h2", "--", "uname -s; id")
    assert code == 1
    assert f"bbctl -i {desk.home}/inventory.yml exec three -x h2 --shell -- 'uname -s; id'".encode() in err
    _, _, err = desk.run("exec", "three", "--", "no-such-program")
    assert b"--shell" not in err


def test_options_after_the_dashes_belong_to_the_command(desk: Desk) -> None:
    _, rows = desk.json("exec", "h1", "--", "echo", "-o", "yaml", "--timeout", "1ms", "--help", "-y")
    assert rows[0]["stdout"] == "-o yaml --timeout 1ms --help -y\n"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["exec", "h1"], "after --"),
        (["exec", "--", "true"], "TARGET"),
        (["exec", "nobody", "--", "true"], "nobody"),
        (["exec", "h1", "--timeout", "5", "--", "true"], "a duration"),
        (["exec", "h1", "--timeout", "0s", "--", "true"], "no time"),
        (["exec", "h1", "--width", "0", "--", "true"], "width"),
    ],
)
def test_what_cannot_be_meant_is_exit_2_before_anything_is_opened(
    desk: Desk, hosts: Farm, words: list[str], says: str
) -> None:
    before = hosts.logins()
    code, said = desk.json(*words)
    assert code == 2
    assert says in said["error"]["message"]
    assert hosts.logins() == before


def test_outdir_holds_the_raw_output_of_each_host(desk: Desk) -> None:
    code, _, _ = desk.run(
        "exec", "three", "--outdir", "out", "--shell", "--", r"printf '\377\033[31m\n'; echo oops >&2"
    )
    assert code == 0
    folder = desk.home / "out"
    assert sorted(p.name for p in folder.iterdir()) == [f"h{n}.{s}" for n in (1, 2, 3) for s in ("err", "out")]
    assert {(folder / f"h{n}.out").read_bytes() for n in (1, 2, 3)} == {b"\xff\x1b[31m\n"}
    assert (folder / "h1.err").read_bytes() == b"oops\n"


def test_ctrl_c_ends_the_command_everywhere_and_every_row_says_so(desk: Desk) -> None:
    nap = f"98301.{os.getpid():07d}"  # no other run's
    process = desk.start("exec", "three", "-o", "json", "--", "sleep", nap)
    wait_for(lambda: len(processes(f"sleep {nap}")) >= 4, "three commands and ourselves")
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert [row["status"] for row in json.loads(out)] == ["interrupted"] * 3
    assert not processes(f"sleep {nap}")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_other_signals_end_it_the_same_way(desk: Desk, number: int, code: int) -> None:
    nap = f"98302.{os.getpid():07d}"
    process = desk.start("exec", "h1", "--", "sleep", nap)
    wait_for(lambda: len(processes(f"sleep {nap}")) >= 2, "the command and ourselves")
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == code
    assert not processes(f"sleep {nap}")


def test_a_closed_pipe_ends_quietly(desk: Desk) -> None:
    process = desk.start("exec", "three", "--", "echo", "x" * 100)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    with process.stderr as stream:
        said = stream.read()
    process.wait(60)
    assert said in (b"", b"3 of 3 ok\n")


def test_as_cron_calls_it_with_next_to_no_environment(desk: Desk) -> None:
    environ = {"PATH": "/usr/bin:/bin", "LANG": "C", "BBCTL_HOME": str(desk.home / "state")}
    call = [*BBCTL, "-i", str(desk.home / "inventory.yml"), "exec", "h1", "-o", "json", "--", "printf", r"caf\303\251"]
    closed = subprocess.run(
        ["sh", "-c", 'exec "$@" <&-', "sh", *call], env=environ, cwd="/", capture_output=True, timeout=60
    )
    assert closed.returncode == 0, closed.stderr
    assert json.loads(closed.stdout.decode())[0]["stdout"] == "caf\u00e9"


def test_on_a_terminal_one_host_is_shown_as_it_comes_and_only_once(desk: Desk) -> None:
    code, shown = desk.terminal("exec", "h1", "--", "printf", r"a\033]0;evil\007b\n")
    assert code == 0
    assert shown == b"a\\x1b]0;evil\\x07b\r\n"


def test_on_a_terminal_lines_of_several_hosts_name_their_host_and_the_result_follows(desk: Desk) -> None:
    code, shown = desk.terminal("exec", "three", "--", "echo", "hello")
    assert code == 0
    assert all(f"h{n}  hello".encode() in shown for n in (1, 2, 3))
    assert shown.endswith(b"h[1-3] (3)  ok\r\n  hello\r\n3 of 3 ok\r\n")


# -- host keys


def lines(path: Path) -> Sequence[str]:
    return path.read_text().splitlines() if path.exists() else []


def test_nothing_becomes_known_without_a_yes(desk: Desk) -> None:
    own = desk.home / "known"
    desk.inventory(known_hosts=own)
    code, rows = desk.json("hosts", "trust", "three")
    assert code == 3
    assert {row["outcome"] for row in rows} == {"unknown"}
    assert desk.json("hosts", "trust", "three", "--dry-run")[0] == 0
    code, shown = desk.terminal("hosts", "trust", "h1", answer=b"n\n")
    assert code == 3
    assert b"SHA256:" in shown
    assert not own.exists()


def test_after_a_yes_on_a_terminal_the_host_is_known(desk: Desk) -> None:
    desk.inventory(known_hosts=desk.home / "known")
    assert desk.terminal("hosts", "trust", "h1", answer=b"y\n")[0] == 0
    assert desk.statuses("ping", "h1,h2") == (3, {"h1": "ok", "h2": "host-key"})


def test_trust_adds_to_what_is_there_and_a_second_time_adds_nothing(desk: Desk, hosts: Farm) -> None:
    own = desk.home / "known"
    own.write_text("# ours\n" + hosts.known_line("h9"))
    desk.inventory(known_hosts=own)
    code, rows = desk.json("hosts", "trust", "three", "--yes")
    assert code == 0
    assert [(row["host"], row["key_type"], row["outcome"]) for row in rows] == [
        (f"h{n}", "ssh-ed25519", "trusted") for n in (1, 2, 3)
    ]
    after = lines(own)
    assert after[:2] == ["# ours", hosts.known_line("h9").strip()]
    assert len(after) == 5
    code, rows = desk.json("hosts", "trust", "three")
    assert (code, {row["outcome"] for row in rows}) == (0, {"known"})
    assert lines(own) == after


def test_a_changed_key_needs_replace_and_nothing_else_is_added_before(desk: Desk, hosts: Farm) -> None:
    own = desk.home / "known"
    own.write_text(hosts.known_line("h1", hosts.keygen("old")))
    before = lines(own)
    desk.inventory(known_hosts=own)
    code, rows = desk.json("hosts", "trust", "h1,h2", "--yes")
    assert code == 3
    assert {row["host"]: row["outcome"] for row in rows} == {"h1": "changed", "h2": "unknown"}
    assert lines(own) == before
    code, dry = desk.json("hosts", "trust", "h1,h2", "--dry-run")
    assert (code, [(r["host"], r["code"]) for r in dry["refusals"]]) == (0, [("h1", "host-key")])
    code, dry = desk.json("unlock", "h1", "--dry-run")
    assert (code, [(r["host"], r["code"]) for r in dry["refusals"]]) == (0, [("h1", "host-key")])
    assert desk.json("hosts", "trust", "h1", "--replace")[0] == 3
    assert lines(own) == before
    code, rows = desk.json("hosts", "trust", "h1,h2", "--replace", "--yes")
    assert (code, [row["outcome"] for row in rows]) == (0, ["replaced", "trusted"])
    assert desk.json("timeline")[1][-1]["targets"] == ["h1", "h2"]
    assert desk.statuses("ping", "h1,h2")[0] == 0


def test_a_revoked_key_is_not_trusted_whatever_is_said(desk: Desk, hosts: Farm) -> None:
    own = desk.home / "known"
    own.write_text("@revoked " + hosts.known_line("h1"))
    desk.inventory(known_hosts=own)
    code, _ = desk.json("hosts", "trust", "h1", "--replace", "--yes")
    assert code == 3
    assert lines(own) == ["@revoked " + hosts.known_line("h1").strip()]


def test_a_host_that_cannot_be_asked_is_in_the_result_and_the_others_are_trusted(desk: Desk) -> None:
    desk.inventory("  gone: {address: 127.0.43.200, port: 1}\n", known_hosts=desk.home / "known")
    code, rows = desk.json("hosts", "trust", "h1,gone", "--yes")
    assert code == 1
    assert {row["host"]: row["outcome"] for row in rows} == {"h1": "trusted", "gone": "unreachable"}


# -- an interactive login


def test_a_shell_begins_in_the_log_folder_of_the_service(desk: Desk, hosts: Farm) -> None:
    logs = desk.home / "logs of jboss"
    logs.mkdir()
    desk.inventory(
        f"  desk: {{address: {hosts.addresses['h4']}, services: [jboss]}}\n"
        f"services:\n  jboss: {{log: '{logs}/server.log'}}\n"
    )
    _, shown = desk.terminal("cdl", "desk", answer=b"pwd > found; exit\n", when=b"")
    assert (logs / "found").exists(), shown
    assert (logs / "found").read_text() == f"{logs}\n"


def test_a_shell_on_a_host_with_an_unknown_key_is_refused_by_the_client_too(desk: Desk, hosts: Farm) -> None:
    desk.inventory(known_hosts=desk.home / "empty")
    commands = hosts.commands()
    code, shown = desk.terminal("shell", "h1")
    assert code != 0
    assert b"Host key verification failed" in shown
    assert hosts.commands() == commands


def test_without_a_terminal_there_is_no_shell(desk: Desk) -> None:
    code, said = desk.json("shell", "h1")
    assert code == 2
    assert said["error"]["next"] == "bbctl exec h1 -- CMD"


def test_what_was_run_and_trusted_is_in_the_audit(desk: Desk) -> None:
    desk.inventory(known_hosts=desk.home / "known")
    desk.json("hosts", "trust", "h1", "--yes", "--reason", "new here")
    desk.json("exec", "h1", "--", "true")
    text = next((desk.home / "state").rglob("audit*")).read_text()
    acts = [(e["act"], e["decision"], e["reason"]) for e in map(json.loads, text.splitlines())]
    assert acts == [
        ("hosts trust", "intent", "new here"), ("hosts trust", "result", "new here"),
        ("exec", "intent", ""), ("exec", "result", ""),
    ]  # fmt: skip


def test_a_folder_for_outputs_that_cannot_be_is_a_usage_error_before_anything_runs(desk: Desk) -> None:
    (desk.home / "file").touch()
    code, out, _ = desk.run("exec", "h1", "--outdir", str(desk.home / "file" / "x"), "-o", "json", "--", "touch", "ran")
    assert (code, json.loads(out)["error"]["code"]) == (2, "usage")
    assert not (Path.home() / "ran").exists()


def test_a_list_of_answers_is_a_list_of_names_too(desk: Desk) -> None:
    assert desk.run("ping", "three", "-o", "name")[:2] == (0, b"h1\nh2\nh3\n")
