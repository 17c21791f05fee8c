"""Commands on a real host: how they end, what they leave behind, and that what goes in and comes out is data."""

from __future__ import annotations

import os
import pickle
import resource
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bbctl.errors import Failed
from bbctl.model import Host, Ran
from bbctl.remote import shell
from bbctl.ssh.transport import Session, Transport
from tests.integration.sshd import Farm, Proxy, farm, processes, wait_for


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    with farm(tmp_path_factory.mktemp("session"), net=42) as made:
        yield made


@pytest.fixture(scope="module")
def session(hosts: Farm) -> Iterator[Session]:
    with Transport(hosts.fleet()) as transport:
        yield transport.open(hosts.host("h1"))


@pytest.fixture(params=[False, True], ids=["plain", "guarded"])
def guard(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def proxied(hosts: Farm, tmp_path: Path) -> Iterator[tuple[Proxy, Session]]:
    """A session through a proxy that can freeze or cut it."""
    proxy = hosts.proxy("h2")
    known = tmp_path / "known"
    known.write_text(hosts.known_line("h2", address="127.0.0.1").replace(str(hosts.port), str(proxy.port)))
    host = hosts.host("h2", address="127.0.0.1", port=proxy.port, known_hosts=known)
    with Transport(hosts.fleet(host)) as transport:
        yield proxy, transport.open(host)
        proxy.mode = "cut"


def nap(number: int) -> str:
    """A command that lasts for ever, and that no other run of these tests has."""
    return f"sleep {number}.{os.getpid():07d}"


def gone(ran: Ran, mark: str) -> None:
    """A command that has ended is gone when it is told; where the host was too slow to say so, that is told, and it goes."""
    if "does not answer" in str(ran.error):
        wait_for(lambda: not processes(mark), "the host to end the command by itself")
    assert not processes(mark)


def guards(pid: int) -> list[int]:
    """The guard of the command with this pid: in its session, not in its group. Other tests have guards too."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                state, _, group, session = (entry / "stat").read_text().rsplit(") ", 1)[1].split()[:4]
                if int(session) == pid != int(group) and state not in "ZX":
                    found.append(int(entry.name))
    return found


def in_background(session: Session, command: str, cancel: threading.Event | None = None) -> list[Ran]:
    """Begin a guarded command; its Ran appears in the list when it ends."""
    ended: list[Ran] = []
    threading.Thread(
        target=lambda: ended.append(session.run(command, timeout=30, guard=True, cancel=cancel)), daemon=True
    ).start()
    return ended


# -- how a command ends


@pytest.mark.parametrize("code", [0, 1, 7, 124, 137, 255])
def test_an_exit_code_is_the_command_s_own(session: Session, code: int, guard: bool) -> None:
    ran = session.run(f"echo out; echo err >&2; exit {code}", timeout=30, guard=guard)
    assert (ran.exit, ran.status, ran.stdout, ran.stderr) == (code, "failed" if code else "ok", b"out\n", b"err\n")
    assert (ran.error is None) == (code == 0)


def test_a_command_killed_by_a_signal_has_no_exit_code_and_names_it(session: Session, guard: bool) -> None:
    ran = session.run("kill -9 $$", timeout=30, guard=guard)
    assert (ran.status, ran.exit, ran.signal) == ("failed", None, "KILL")
    assert ran.error == "killed by KILL"


def test_a_program_that_is_not_there_is_failed_with_127(session: Session, guard: bool) -> None:
    ran = session.run(shell.program(["/no/such/program"]), timeout=30, guard=guard)
    assert (ran.status, ran.exit) == ("failed", 127)


def test_a_command_has_no_input_to_wait_for(session: Session, guard: bool) -> None:
    assert session.run("cat; echo end", timeout=30, guard=guard).stdout == b"end\n"


def test_input_larger_than_every_window_arrives_whole(session: Session) -> None:
    data = os.urandom(5_000_000)
    ran = session.run("cat", timeout=30, stdin=data)
    assert ran.ok
    assert ran.stdout == data


SLEEPERS = {
    "plain": "exec NAP",
    "deaf": "trap '' TERM INT HUP; while :; do NAP; done",
    "with a child": "sh -c 'trap \"\" TERM; NAP' & NAP",
    "endless output": "while :; do echo NAP; done",
}


@pytest.mark.parametrize("kind", SLEEPERS)
def test_after_the_deadline_nothing_of_the_command_is_left_on_the_host(session: Session, kind: str) -> None:
    sleeping = nap(98100 + list(SLEEPERS).index(kind))
    script = SLEEPERS[kind].replace("NAP", sleeping)
    ran = session.run(shell.program(["sh", "-c", f"echo before; {script}"]), timeout=3.0, guard=True)
    assert (ran.status, ran.exit) == ("timeout", None)
    assert ran.stdout.startswith(b"before\n")
    gone(ran, sleeping)
    assert session.alive


def test_a_cancelled_command_is_interrupted_and_gone(session: Session) -> None:
    cancel = threading.Event()
    ended = in_background(session, f"exec {nap(98201)}", cancel)
    wait_for(lambda: processes(nap(98201)), "the command to run")
    cancel.set()
    wait_for(lambda: ended, "the command to end")
    assert ended[0].status == "interrupted"
    gone(ended[0], nap(98201))


def test_a_lost_connection_is_failed_without_exit_code_and_the_command_ends(proxied: tuple[Proxy, Session]) -> None:
    proxy, session = proxied
    ended = in_background(session, f"exec {nap(98202)}")
    wait_for(lambda: processes(nap(98202)), "the command to run")
    proxy.mode = "cut"
    wait_for(lambda: ended, "the loss to be noticed")
    assert (ended[0].status, ended[0].exit) == ("failed", None)
    assert "connection lost" in str(ended[0].error)
    assert not session.alive
    wait_for(lambda: not processes(nap(98202)), "the command to end by itself")


def test_in_a_frozen_network_both_ends_keep_the_deadline(proxied: tuple[Proxy, Session]) -> None:
    proxy, session = proxied
    proxy_frozen = threading.Event()

    def freeze(*_: object) -> None:
        proxy.mode = "freeze"
        proxy_frozen.set()

    ran = session.run(f"echo $$; exec {nap(98203)}", timeout=3.0, guard=True, on_output=freeze)
    assert proxy_frozen.is_set()
    assert (ran.status, ran.exit) == ("timeout", None)
    assert "does not answer" in str(ran.error)
    wait_for(lambda: not processes(nap(98203)), "the host to end the command by itself")


def test_a_channel_that_cannot_be_opened_is_a_timeout(proxied: tuple[Proxy, Session]) -> None:
    proxy, session = proxied
    proxy.mode = "freeze"
    ran = session.run("true", timeout=0.5)
    assert (ran.status, ran.exit) == ("timeout", None)


def test_kill_9_of_bbctl_ends_its_commands_too(hosts: Farm) -> None:
    code = (
        "import sys, pickle; from bbctl.ssh.transport import Transport\n"
        "fleet, text = pickle.loads(sys.stdin.buffer.read())\n"
        "Transport(fleet).run(fleet.hosts['h1'], text, timeout=60, guard=True)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
    assert child.stdin is not None
    child.stdin.write(pickle.dumps((hosts.fleet(), f"trap '' TERM HUP; {nap(98204)}; {nap(98204)}")))
    child.stdin.close()
    wait_for(lambda: processes(nap(98204)), "the command to run")
    child.kill()
    child.wait()
    wait_for(lambda: not processes(nap(98204)), "the command to end with us")


def test_what_a_command_leaves_running_on_purpose_is_left_alone(session: Session) -> None:
    ran = session.run(f"{nap(98205)} >/dev/null 2>&1 & echo $$ $!", timeout=30, guard=True)
    assert ran.ok
    own, left = map(int, ran.stdout.split())
    wait_for(lambda: not guards(own), "the guard to be gone")
    wait_for(lambda: processes(nap(98205)) == [left], "the shells that bore its words to be gone, and it alone to stay")
    os.kill(left, 9)


def test_a_stream_held_open_by_something_left_running_is_not_waited_for(session: Session) -> None:
    ran = session.run(f"{nap(98206)} & echo $!", timeout=60)
    os.kill(int(ran.stdout), 9)
    assert ran.ok


def test_many_commands_leave_no_guard_behind(session: Session) -> None:
    said = [session.run("echo $$", timeout=30, guard=True) for _ in range(10)]
    assert all(ran.ok for ran in said)
    wait_for(lambda: not any(guards(int(ran.stdout)) for ran in said), "the guards to be gone")


# -- whatever the login shell is

SHELLS = ("bash", "dash", "zsh")
PLAIN = {"PATH": os.environ["PATH"]}  # of ours nothing that makes a shell read start-up files


@pytest.fixture(scope="module", params=SHELLS)
def shelled(request: pytest.FixtureRequest, hosts: Farm) -> Iterator[Session]:
    """A session whose texts are read by this shell, with a locale of many bytes a character; the environment claims bash."""
    if not shutil.which(request.param):
        pytest.skip(f"{request.param} is not installed")
    number = 120 + SHELLS.index(request.param)
    address, folder = f"127.0.42.{number}", hosts.folder / request.param
    folder.mkdir()
    environ = f"HOME={folder} LC_ALL=C.UTF-8 BASH_VERSION=5.2 BASHPID=1"
    forced = f'ForceCommand exec {request.param} -c "$SSH_ORIGINAL_COMMAND"'
    hosts.start([address], hosts.host_key, folder / "sshd.log", settings=f"SetEnv {environ}\n{forced}")
    (folder / "known").write_text(hosts.known_line(request.param, address=address))
    host = hosts.host(request.param, address=address, known_hosts=folder / "known")
    with Transport(hosts.fleet(host)) as transport:
        yield transport.open(host)


def test_in_every_shell_a_command_ends_as_itself(shelled: Session) -> None:
    ran = shelled.run("echo out; echo err >&2; cat\nexit 7", timeout=30, guard=True)
    assert (ran.exit, ran.stdout, ran.stderr) == (7, b"out\n", b"err\n")
    assert shelled.run("kill -9 $$", timeout=30, guard=True).signal == "KILL"


def test_in_every_shell_bytes_of_no_character_arrive_as_they_are(shelled: Session) -> None:
    every = bytes(range(1, 256))
    for data in (every, b"caf\xe9", b"a\xe9\nb\xf0\n", b" \\ \n\n\t"):
        ran = shelled.run(shell.program(["printf", "%s", os.fsdecode(data)]), timeout=30, guard=True)
        assert ran.stdout == data


def test_in_every_shell_a_command_finds_nothing_of_ours_by_its_own_words(shelled: Session) -> None:
    word = f"jboss-98302-{os.getpid()}"
    ran = shelled.run(shell.program(["pgrep", "-f", word]), timeout=30, guard=True)
    assert (ran.exit, ran.stdout) == (1, b"")


def test_in_every_shell_a_program_has_no_child_of_ours_to_wait_for(shelled: Session) -> None:
    waits = "import os\ntry: print(os.wait())\nexcept ChildProcessError: print('no child')"
    ran = shelled.run(shell.program([sys.executable, "-c", waits]), timeout=30, guard=True)
    assert ran.stdout == b"no child\n"


def test_in_every_shell_the_guard_is_out_of_reach_of_the_command_s_group(shelled: Session) -> None:
    sleeping, cancel, said = nap(98303), threading.Event(), bytearray()
    guarded = "until [ $(ps -o pgid= -s $$ | sort -u | wc -l) -gt 1 ]; do sleep 0.05; done"
    text = f"trap 'echo told' TERM; {guarded}; kill -s TERM 0; echo $$; trap '' TERM; {sleeping}; {sleeping}"

    def heard(_: str, data: bytes) -> None:
        said.extend(data)
        if said.count(b"\n") == 2:
            cancel.set()

    ran = shelled.run(text, timeout=30, guard=True, cancel=cancel, on_output=heard)
    assert ran.status == "interrupted"
    gone(ran, sleeping)
    told, own = said.split()
    assert told == b"told"
    wait_for(lambda: not guards(int(own)), "the guard to be gone")


@pytest.mark.parametrize("name", SHELLS)
def test_in_every_shell_the_host_keeps_the_deadline_by_itself(name: str) -> None:
    if not shutil.which(name):
        pytest.skip(f"{name} is not installed")
    text, data = shell.guarded(f"exec {nap(98304)}", 1.0)
    command = subprocess.Popen([name, "-c", text], stdin=subprocess.PIPE, env=PLAIN, start_new_session=True)
    assert command.stdin is not None
    with command.stdin as channel:
        channel.write(data.encode())
        channel.flush()
        assert command.wait(60) == -signal.SIGTERM


@pytest.mark.parametrize("name", SHELLS)
def test_a_text_that_does_not_come_whole_is_not_run(name: str, tmp_path: Path) -> None:
    if not shutil.which(name):
        pytest.skip(f"{name} is not installed")
    made = tmp_path / "made"
    text, sent = shell.guarded(f"touch {made}\ntouch {made}-2", 60)
    data = sent.encode()
    for part in (data[:-1], data[:-2], data[:5], b"", data[1:], data[data.index(b"\n") + 1 :] + b"k\n"):
        run = subprocess.run([name, "-c", text], input=part, env=PLAIN, capture_output=True, check=False)
        assert (run.returncode, run.stderr) == (255, b"it came cut short\n")
        assert not list(tmp_path.iterdir())
    whole = subprocess.Popen([name, "-c", text], stdin=subprocess.PIPE, env=PLAIN, start_new_session=True)
    assert whole.stdin is not None
    with whole.stdin as channel:
        channel.write(data)
        channel.flush()
        assert whole.wait(60) == 0
    assert len(list(tmp_path.iterdir())) == 2


# -- many at once


def test_more_commands_at_once_than_a_server_allows_all_run(hosts: Farm, tmp_path: Path) -> None:
    address = "127.0.42.110"
    hosts.start([address], hosts.host_key, tmp_path / "sshd.log", settings="MaxSessions 2")
    known = tmp_path / "known"
    known.write_text(hosts.known_line("narrow", address=address))
    host = hosts.host("narrow", address=address, known_hosts=known)
    ended: list[Ran] = []
    with Transport(hosts.fleet(host)) as transport:
        session = transport.open(host)
        threads = [
            threading.Thread(target=lambda: ended.append(session.run("sleep 0.2; echo x", timeout=60)))
            for _ in range(6)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [r.stdout for r in ended] == [b"x\n"] * 6


def test_a_server_that_takes_no_command_at_all_is_failed_and_says_so(hosts: Farm, tmp_path: Path) -> None:
    address = "127.0.42.111"
    hosts.start([address], hosts.host_key, tmp_path / "sshd.log", settings="MaxSessions 0")
    known = tmp_path / "known"
    known.write_text(hosts.known_line("closed", address=address))
    host = hosts.host("closed", address=address, known_hosts=known)
    with Transport(hosts.fleet(host)) as transport:
        ran = transport.run(host, "true", timeout=30)
    assert (ran.status, ran.exit) == ("failed", None)


# -- output


def test_both_streams_come_whole_whichever_is_fuller(session: Session) -> None:
    script = "import sys\nfor i in range(60): sys.stderr.write('e'*99999+'\\n'); sys.stdout.write('o'*99999+'\\n')"
    ran = session.run(shell.program([sys.executable, "-c", script]), timeout=30)
    assert ran.ok
    assert (ran.stdout, ran.stderr) == ((b"o" * 99999 + b"\n") * 60, (b"e" * 99999 + b"\n") * 60)


def test_output_beyond_what_is_kept_is_counted_and_still_handed_on(session: Session) -> None:
    heard = {"out": 0, "err": 0}

    def on_output(name: str, data: bytes) -> None:
        heard[name] += len(data)

    ran = session.run("head -c 3000000 /dev/zero; echo late", timeout=30, keep=1000, on_output=on_output)
    assert ran.ok
    assert len(ran.stdout) == 1000
    assert ran.cut == 3000005 - 1000
    assert heard["out"] == 3000005


def test_a_flood_is_read_in_bounded_memory(session: Session) -> None:
    session.run("head -c 1000000 /dev/zero", timeout=30, keep=0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ran = session.run("head -c 100000000 /dev/zero", timeout=60, keep=1 << 20)
    assert ran.cut == 100_000_000 - (1 << 20)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60 * 1024, "KiB more than before"


def test_a_listener_with_a_full_disk_is_not_a_lost_connection(session: Session) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(Failed, match="No space left"):
        session.run(f"echo x; exec {nap(98207)}", timeout=30, guard=True, on_output=full)
    assert session.alive
    wait_for(lambda: not processes(nap(98207)), "the command to end")


# -- arguments stay data

WORDS = st.text(alphabet=st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=80)
NASTY = st.sampled_from(
    ["$(touch CANARY)", "`touch CANARY`", "; touch CANARY", "| touch CANARY", "'; touch CANARY; '", "\n touch CANARY\n",
     "&& touch CANARY", "> CANARY", "-rf", "--", "~", "*", "\\", "!!", "\u202e", "\u037e", "${IFS}touch${IFS}CANARY"]
)  # fmt: skip


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(words=st.lists(st.one_of(WORDS, NASTY, st.tuples(NASTY, WORDS).map("".join)), min_size=1, max_size=6))
def test_arguments_arrive_as_they_are_and_run_nothing(session: Session, tmp_path: Path, words: list[str]) -> None:
    program = shell.program(["printf", r"%s\0", *words])
    ran = session.run(f"cd {shell.quote(str(tmp_path))} && {program}", timeout=30, guard=True)
    assert ran.stdout.decode().split("\0")[:-1] == words
    assert list(tmp_path.iterdir()) == []


# -- through the connection


def test_a_tunnel_reaches_what_the_host_reaches(session: Session, hosts: Farm) -> None:
    with session.tunnel(hosts.addresses["h3"], hosts.port, timeout=30) as tunnel:
        assert tunnel.recv(8) == b"SSH-2.0-"


def test_a_tunnel_to_nobody_is_refused_and_the_session_lives_on(session: Session) -> None:
    with pytest.raises(ConnectionRefusedError):
        session.tunnel("127.0.0.1", 1, timeout=5)
    assert session.run("true", timeout=30).ok


def test_a_server_that_forbids_tunnels_says_so(hosts: Farm, tmp_path: Path) -> None:
    address = "127.0.42.112"
    hosts.start([address], hosts.host_key, tmp_path / "sshd.log", settings="AllowTcpForwarding no")
    known = tmp_path / "known"
    known.write_text(hosts.known_line("strict", address=address))
    host: Host = hosts.host("strict", address=address, known_hosts=known)
    with Transport(hosts.fleet(host)) as transport, pytest.raises(PermissionError):
        transport.open(host).tunnel(address, hosts.port, timeout=30)


# -- what a login shell does besides


@pytest.fixture
def logged_in(tmp_path: Path) -> Iterator[Callable[[str], Session]]:
    """A session on a host where this shell line runs before each command, as a start-up file of the login shell would."""
    with ExitStack() as opened:

        def begin(line: str) -> Session:
            name = f"s{len(list(tmp_path.iterdir()))}"
            forced = f'MaxStartups 200\nForceCommand {line}; eval "$SSH_ORIGINAL_COMMAND"'
            made = opened.enter_context(farm(tmp_path / name, "h1", net=48, settings=forced))
            return opened.enter_context(Transport(made.fleet())).open(made.host("h1"))

        yield begin


def test_what_a_login_shell_prints_before_the_command_is_none_of_its_output(
    logged_in: Callable[[str], Session], guard: bool
) -> None:
    session = logged_in("echo welcome; printf 'no end of line> '")
    passed_on: list[bytes] = []
    ran = session.run("echo out", timeout=30, guard=guard, on_output=lambda _, data: passed_on.append(data))
    assert (ran.status, ran.stdout, b"".join(passed_on)) == ("ok", b"out\n", b"out\n")
    loud = session.run("echo out; exit 3", timeout=30, guard=guard, keep=2)
    assert (loud.exit, loud.stdout, loud.cut) == (3, b"ou", 2)


def test_a_command_that_the_login_shell_never_ran_did_not_succeed(
    logged_in: Callable[[str], Session], guard: bool
) -> None:
    ran = logged_in("echo closed for the weekend; exit 0").run("echo out", timeout=30, guard=guard)
    assert (ran.status, ran.exit, ran.stdout) == ("failed", None, b"")
    assert "login shell" in str(ran.error)
    assert "closed for the weekend" in str(ran.error)
    assert not ran.unanswered  # it is known that nothing was done


def test_a_shell_that_takes_the_place_of_the_login_shell_runs_nothing_of_the_command(
    logged_in: Callable[[str], Session], tmp_path: Path
) -> None:
    ran = logged_in("exec sh").run(f"touch {tmp_path}/ran\ntouch {tmp_path}/ran", timeout=1, guard=True)
    assert (ran.status, ran.stdout) == ("timeout", b"")
    assert not (tmp_path / "ran").exists()


def test_a_login_shell_that_does_not_come_to_the_command_is_named_when_the_time_is_over(
    logged_in: Callable[[str], Session],
) -> None:
    ran = logged_in(f"{nap(8061)} & wait").run("echo out", timeout=1)
    assert (ran.status, ran.stdout) == ("timeout", b"")
    assert "login shell had not begun" in str(ran.error)
    for pid in processes(nap(8061)):
        os.kill(pid, signal.SIGKILL)
