"""What sudo says of a command before it is run, read with its own listing; a real sudo is in tests/integration/test_sudo.py."""

from __future__ import annotations

import pytest

from bbctl.remote.sudo import may, refusal

STOP = ("/etc/init.d/jboss", "stop")
RULES = """Matching Defaults entries for ops on w1:
    env_reset, use_pty

User ops may run the following commands on w1:

Sudoers entry:
    RunAsUsers: ALL
    RunAsGroups: ALL
    Commands:
\tALL

Sudoers entry:
    RunAsUsers: jb, billing
    Options: !authenticate
    Commands:
\t/etc/init.d/jboss start
\t/etc/init.d/jboss {words}
"""


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("yes\n", None),
        ("no \n", "no rule of sudoers allows it"),
        ("no sudo: a password is required\n", "a password is required"),
        ("no sudo: unable to resolve host w1\nsudo: sorry, you must have a tty to run sudo\n", "you must have a tty"),
        ("no sh: 1: sudo: not found\n", "sudo: not found"),
        ("no the host did not say", "the host did not say"),
    ],
)
def test_an_answer_of_sudo_is_told_in_its_own_words(answer: str, why: str | None) -> None:
    said = refusal(answer, "jb", STOP)
    assert (said is None) if why is None else (said is not None and why in said and not said.startswith("sudo: "))


@pytest.mark.parametrize(
    ("words", "user", "asks"),
    [
        ("stop", "jb", False),
        ("*", "jb", False),
        ("status", "jb", True),  # what is left is the rule for all, which wants a password
        ("stop", "root", True),
    ],
)
def test_of_several_rules_that_fit_the_last_says_whether_a_password_is_asked_for(
    words: str, user: str, asks: bool
) -> None:
    said = refusal("rules\n" + RULES.format(words=words), user, STOP)
    assert said == ("a password is required" if asks else None)


ALL_ASKED = ("ALL", "", "ALL")


def listing(*rules: tuple[str, str, str]) -> str:
    """sudo's long listing of rules: as whom, options, command."""
    return "rules\n" + "".join(
        f"\nSudoers entry:\n    RunAsUsers: {users}\n{options}    Commands:\n\t{command}\n"
        for users, options, command in rules
    )


@pytest.mark.parametrize(
    "command",
    [
        "/etc/rc.d/init.d/jboss stop",  # another path, maybe of the same file
        "/etc/init.d/",
        "/etc/init.d/*",
        "/etc/init.d/jboss",
        "^/etc/init.d/jb[os]+ stop$",
        "/etc/init.d/jboss ^(stop|start)$",
        "sha256:4a5b= /etc/init.d/jboss stop",
    ],
)
def test_a_rule_without_password_that_fits_or_may_fit_lets_the_words_through(command: str) -> None:
    free = ("jb", "    Options: !authenticate\n", command)
    assert refusal(listing(ALL_ASKED, free), "jb", STOP) is None


@pytest.mark.parametrize(
    "command",
    ["/etc/init.d/other stop", "/etc/*/other", '/etc/init.d/jboss ""', "/etc/init.d/jboss start", "!/etc/init.d/jboss"],
)
def test_a_rule_without_password_for_other_words_does_not_help(command: str) -> None:
    free = ("jb", "    Options: !authenticate\n", command)
    assert refusal(listing(ALL_ASKED, free), "jb", STOP) == "a password is required"


def test_a_rule_for_no_arguments_fits_a_command_without_any() -> None:
    free = ("jb", "    Options: !authenticate\n", '/opt/stop.sh ""')
    assert refusal(listing(ALL_ASKED, free), "jb", ("/opt/stop.sh",)) is None


@pytest.mark.parametrize("users", ["%jb", "#1001", "\\#1001"])
def test_a_password_that_the_only_rule_wants_is_told_also_where_its_user_is_a_group_or_a_number(users: str) -> None:
    asked = (users, "", "ALL")
    assert refusal(listing(asked), "jb", STOP) == "a password is required"
    free = ("jb", "    Options: !authenticate\n", "/etc/init.d/jboss stop")
    assert refusal(listing(free, asked), "jb", STOP) is None


def test_rules_that_cannot_be_read_refuse_nothing() -> None:
    assert refusal("rules\nSorry, another form", "jb", STOP) is None


def test_the_words_are_quoted_and_not_run() -> None:
    text = may("jb", ("/opt/a b/stop", "$(id)"))
    assert "sudo -n -l -u jb -- '/opt/a b/stop' '$(id)'" in text
    assert "sudo -n -u jb -- '/opt/a b/stop'" not in text
