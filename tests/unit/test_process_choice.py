"""Which process is the service: from a host's listing as it was recorded."""

from __future__ import annotations

import pytest

from bbctl.model import Process
from bbctl.remote import process

RULE = Process(match=r"org\.jboss\.Main -c accounting", user="jboss")


def stat(pid: int, parent: int, ticks: int, name: str = "java", state: str = "S") -> str:
    return f"{pid} ({name}) {state} {parent} " + " ".join(["0"] * 17) + f" {ticks} 0 0\n"


def listing(*procs: tuple[int, int, int, str], extra: str = "") -> bytes:
    """(pid, parent, uid, command): as a host with the users jboss (1001) and other (1002) prints them."""
    head = "me 900\nboot b-1\nup 5000.00\nnow 1700000000000000000\nuser 1001 jboss\n"
    table = "p 1 0 0\np 900 1 1001\np 901 900 1001\n" + "".join(f"p {p} {pp} {u}\n" for p, pp, u, _ in procs)
    files = "".join(
        f"\n==> /proc/{p}/stat <==\n{stat(p, pp, 100 * p)}\n==> /proc/{p}/cmdline <==\n" + command.replace(" ", "\0")
        for p, pp, u, command in procs
        if u == 1001
    )
    return (head + table + ".\n" + files.lstrip("\n") + extra).encode()


JBOSS = "/usr/bin/java -Xmx2g org.jboss.Main -c accounting -b 0.0.0.0"


def chosen(*procs: tuple[int, int, int, str], pidfile: str | None = None) -> process.Found:
    return process.choose(process.understand(listing(*procs)), RULE, pidfile)


def test_the_one_that_matches_is_it_with_its_start_by_the_host_s_clock() -> None:
    proc = chosen((20, 1, 1001, JBOSS), (21, 1, 1001, "/usr/bin/java Other")).proc
    assert proc is not None
    assert (proc.pid, proc.user, proc.command, proc.ticks, proc.boot) == (20, "jboss", JBOSS, 2000, "b-1")
    assert (proc.started, proc.age) == (1_700_000_000.0 - 4980, 4980.0)


def test_two_that_match_are_both_named_and_none_is_chosen() -> None:
    found = chosen((20, 1, 1001, JBOSS), (30, 1, 1001, JBOSS))
    assert found.proc is None
    assert found.ambiguous == "2 processes match: 20, 30"


def test_a_match_below_a_match_is_its_child_also_with_others_in_between() -> None:
    found = chosen((20, 1, 1001, JBOSS), (25, 20, 0, "sudo"), (30, 25, 1001, JBOSS))
    assert found.proc is not None
    assert found.proc.pid == 20


def test_our_own_question_and_its_children_are_never_a_candidate() -> None:
    extra = (
        f"\n==> /proc/900/stat <==\n{stat(900, 1, 5)}\n==> /proc/900/cmdline <==\nsh\0-c\0org.jboss.Main -c accounting"
    )
    below = (905, 901, 1001, "tail org.jboss.Main -c accounting")
    found = process.choose(process.understand(listing((20, 1, 1001, JBOSS), below, extra=extra)), RULE)
    assert found.proc is not None
    assert found.proc.pid == 20


def test_processes_of_other_users_are_not_looked_at() -> None:
    assert chosen((20, 1, 1002, JBOSS)) == process.Found(proc=None, candidates=())


@pytest.mark.parametrize("content", ["", "21", "1", "-20", "20; rm", "20 21"])
def test_a_pid_file_that_names_another_takes_the_choice_away(content: str) -> None:
    found = chosen((20, 1, 1001, JBOSS), pidfile=content)
    assert found.proc is None
    assert "20" in (found.ambiguous or "")


def test_a_pid_file_means_nothing_where_no_process_matches() -> None:
    assert chosen((20, 1, 1001, "java Other"), pidfile="20") == process.Found(proc=None, candidates=())


def test_a_name_in_brackets_and_with_line_ends_is_read_right() -> None:
    text = listing((20, 1, 1001, JBOSS)).replace(b"(java)", b"(a) S 1 (b\n) c)")
    proc = process.choose(process.understand(text), RULE).proc
    assert proc is not None
    assert proc.ticks == 2000


def test_a_listing_that_is_cut_is_an_error_and_no_empty_host() -> None:
    with pytest.raises(ValueError, match="not whole"):
        process.understand(b"me 1\nboot x\n")


def test_the_signal_s_answer_says_what_became_of_it() -> None:
    assert process.understand_signal(b"signal 0 pidfd:perl \n").outcome == "sent"
    assert process.understand_signal(b"noise\nsignal 4 kill pid 5 now runs another command\n").outcome == "changed"
    assert process.understand_signal(b"signal 5 kill 1\n") == process.Signalled(
        outcome="zombie", how="kill", detail="1"
    )
    assert process.understand_signal(b"bash: broken").outcome == "unclear"
