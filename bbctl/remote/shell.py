"""Text for a remote shell: the one place where words are quoted, and the guard that ends what we started.

A command is a value first and runs elsewhere: everything here is pure. What it may rely on is what a target host has:
sshd, a POSIX shell, coreutils, procps and util-linux. Text is read by the login shell of the user (`$SHELL -c TEXT`).
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from functools import lru_cache

from bbctl.errors import UsageError

# Linux gives a single argument 128 KiB (MAX_ARG_STRLEN), and sshd hands the whole text to the shell as one.
MAX_TEXT = 128 * 1024 - 1024

# The watcher beside a guarded command, in a process group of its own, with the channel as its stdin. $1: the command's
# process, which leads its group. A line `k` asks for the end; the end of the channel, the deadline and a TERM mean that
# nobody is there any more. Then the group gets TERM, one second, KILL. Where the leader has ended by itself, nothing is
# touched: what it left running it left on purpose.
_WATCH = (
    'k(){{ trap "" TERM;kill -s TERM -- -$1||kill -s TERM $1||exit;'
    "for i in 1 2 3 4 5 6 7 8 9 10;do sleep 0.1;kill -s 0 -- -$1||exit;done;kill -s KILL -- -$1;exit;}};"
    'trap "kill -s 0 $1&&k $1;exit" TERM;{read} -r x;case $x in k)k $1;;esac;kill -s 0 $1&&k $1'
)

# Bash knows deadlines itself: its watcher is a fork, whose group `set -m` gives it, and no program is started. No other
# shell has a BASHPID that is its pid, whatever its environment says. The rest need `timeout`, whose group it then is.
_BY_BASH = "(set -m;{{ set +m;set -- $$;{watch};}}<&3 3<&-&)>/dev/null 2>&1"
_BY_TIMEOUT = "(timeout {seconds} /bin/sh -c {watch} w $$ <&3 3<&- >/dev/null 2>&1 &)"

# A text up to this many characters comes by the channel, not in the command line of the login shell, which a forked watcher
# keeps: a `pgrep -f` would find that by the words of the very text. A shell asks for each byte: 0.5 ms a thousand.
SHORT = 512
# The shell reads the lines of the text and nothing behind them. What does not come whole, from its head to its last line,
# is not run. Bytes are read, not characters: one that is cut short would take the end of its line in. To a shell that reads
# them as its own (a start-up file that ends with `exec zsh`) they are remarks: it runs nothing that we then know nothing of.
_HEAD = ":;"
_READ = (
    "c=;i={lines};while [ $i -gt 0 ];do IFS= LC_ALL=C read -r l<&3||break;c=$c${{l#?}}'\n';i=$((i-1));done;"
    "case $i$c in 0:\\;*);;*)echo it came cut short >&2;exit 255;;esac"
)


def quote(word: str) -> str:
    """One word, safe as one argument. Raises UsageError for a NUL, which no argument can hold."""
    if "\0" in word:
        raise UsageError("an argument cannot hold a NUL character", next="bbctl exec --help")
    return shlex.quote(word)


def join(words: Sequence[str]) -> str:
    return " ".join(quote(word) for word in words)


def program(argv: Sequence[str]) -> str:
    """The program and its arguments in place of the shell, so that its exit code or signal is the session's own."""
    if not argv:
        raise UsageError("there is no command to run", next="bbctl exec TARGET -- CMD ARG…")
    return f"exec {'-- ' if argv[0].startswith('-') else ''}{join(argv)}"


def script(line: str) -> str:
    """One line (or more) of POSIX shell, whatever the login shell is."""
    return f"exec sh -c {quote(line)}"


def as_user(user: str | None, argv: Sequence[str]) -> tuple[str, ...]:
    """The words to run `argv` as `user`; never asks for a password. None: as the login user."""
    return tuple(argv) if user is None else ("sudo", "-n", "-u", user, "--", *argv)


def guarded(text: str, seconds: float) -> tuple[str, str]:
    """What runs `text` with stdin empty, and what to send it: its process group ends when the channel ends, when a line `k`
    is sent after that, or when `seconds` are over.

    The exit code or signal of `text` stays the session's own: the watcher is nobody's child that `text` could wait for.
    """
    watched, watched_by_any = _watchers(math.ceil(seconds))
    if len(text) > SHORT:
        return f"exec 3<&0 </dev/null;{watched_by_any};exec 3<&-\n{text}", ""
    read = _READ.format(lines=text.count("\n") + 1)
    sent = "".join(f"#{line}\n" for line in f"{_HEAD}{text}".split("\n"))
    return f'exec 3<&0 </dev/null;{read};{watched};exec 3<&-;eval "$c"', sent


@lru_cache(maxsize=64)
def _watchers(seconds: int) -> tuple[str, str]:
    """What begins the watcher: by whichever way the shell has, and by the way that every shell has."""
    by_timeout = _BY_TIMEOUT.format(seconds=seconds, watch=quote(_WATCH.format(read="read")))
    by_bash = _BY_BASH.format(watch=_WATCH.format(read=f"read -t {seconds}"))
    return f"case $BASH_VERSION/$BASHPID in [4-9]*/$$){by_bash};;*){by_timeout};;esac", by_timeout


def announced(text: str, mark: str) -> str:
    """`text`, its beginning told by `mark` on stdout: what came before is what the login shell says of itself, and where no
    mark comes that shell never ran it. The login shell itself says it, so it must be a word that needs no quotes."""
    return f"printf %s {mark};{text}"


def encoded(text: str) -> bytes:
    """What goes over the wire. Raises UsageError where it is too long for a host or holds a NUL."""
    data = text.encode("utf-8", "surrogateescape")
    if len(data) > MAX_TEXT:
        raise UsageError(f"the command is {len(data)} bytes long; a host takes {MAX_TEXT}", next="bbctl exec --help")
    if b"\0" in data:
        raise UsageError("a command cannot hold a NUL character", next="bbctl exec --help")
    return data
