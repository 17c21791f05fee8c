"""Text for a remote shell, compared as text: what it does on a host is in tests/integration/test_session.py."""

from __future__ import annotations

import pytest

from bbctl.errors import UsageError
from bbctl.remote import shell


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("uptime", "uptime"),
        ("", "''"),
        ("a b", "'a b'"),
        ("$(id)", "'$(id)'"),
        ("it's", "'it'\"'\"'s'"),
        ("-rf", "-rf"),
        ("~", "'~'"),
        ("\u037e", "'\u037e'"),
    ],
)
def test_a_word_is_quoted_where_a_shell_would_see_more_than_itself(word: str, text: str) -> None:
    assert shell.quote(word) == text


def test_a_program_takes_the_place_of_the_shell() -> None:
    assert shell.program(["grep", "-c", "a b", "/x"]) == "exec grep -c 'a b' /x"


def test_a_program_named_like_an_option_is_still_a_program() -> None:
    assert shell.program(["-x"]) == "exec -- -x"


def test_no_program_at_all_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="no command"):
        shell.program([])


def test_a_line_for_the_shell_is_one_argument_of_a_posix_shell() -> None:
    assert shell.script("a | b; c") == "exec sh -c 'a | b; c'"


def test_another_user_is_become_without_a_question() -> None:
    assert shell.as_user("jboss", ["kill", "1"]) == ("sudo", "-n", "-u", "jboss", "--", "kill", "1")
    assert shell.as_user(None, ["kill", "1"]) == ("kill", "1")


def test_a_short_guarded_text_is_sent_and_its_words_are_in_no_command_line() -> None:
    text, data = shell.guarded("exec jboss\n-f", 4.2)
    assert "timeout 5 /bin/sh -c " in text
    assert "read -t 5 " in text
    assert "jboss" not in text
    assert data == "#:;exec jboss\n#-f\n"  # a remark to any other shell that reads it


def test_a_long_guarded_text_runs_after_its_watcher_has_begun_and_with_no_stdin() -> None:
    text, data = shell.guarded("x" * (shell.SHORT + 1), 4.2)
    first, rest = text.split("\n")
    assert first.startswith("exec 3<&0 </dev/null;(timeout 5 /bin/sh -c ")
    assert first.endswith(" w $$ <&3 3<&- >/dev/null 2>&1 &);exec 3<&-")
    assert (rest, data) == ("x" * (shell.SHORT + 1), "")


@pytest.mark.parametrize("text", ["a\0b", "x" * (shell.MAX_TEXT + 1)])
def test_what_no_host_could_take_is_refused_before_it_is_sent(text: str) -> None:
    with pytest.raises(UsageError):
        shell.encoded(text)


def test_an_argument_with_a_nul_is_refused() -> None:
    with pytest.raises(UsageError, match="NUL"):
        shell.join(["a\0b"])


def test_bytes_that_are_no_utf8_travel_as_they_were_typed() -> None:
    assert shell.encoded("caf\udce9") == b"caf\xe9"
