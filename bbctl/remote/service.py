"""A service's own start and stop commands on its host: launched in a session of their own, polled, never waited for.

A start script may keep its stdout open for ever through the service that it started, so output goes to a file and the
end is told by an exit file that a wrapper writes. The connection may break, bbctl may be killed: the command goes on,
and whoever resumes the run finds it by its launch, `RUN.NONCE`: the end of an earlier launch is never taken for that of
a later one, though its answer was lost. Nothing that a command started is ever ended with it, except a
stop command itself that still waits for a process which is proven to hang.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from bbctl.model import Lock, Proc
from bbctl.remote.lease import beside
from bbctl.remote.shell import as_user, join, quote

SHOWN = 2000  # bytes from the end of a command's output that travel with every poll

# $0: the base path, $1: the launch. Its pid and start time say later that a process of this number is still this one.
# The words of the command stand in a file: on the wrapper's command line they might pass for the service itself. On the
# launching shell's they are spelt in octal: a stop command like `pkill -f org.jboss.Main` must not find its own words.
_WRAP = r"""
base=$0 launch=$1
ticks=$(stat=$(cat /proc/$$/stat); stat=${stat##*") "}; set -f; set -- $stat; echo "${20}")
printf '%s %s %s\n' "$launch" $$ "$ticks" > "$base.new" && mv -f -- "$base.new" "$base.pid" || exit 1
. "$base.sh" > "$base.out" 2>&1 < /dev/null
code=$?
read -r own pid rest < "$base.pid"  # another launch may have taken these files over: its end is not ours to tell
[ "$pid" != $$ ] || { printf '%s\n' $code > "$base.new" && mv -f -- "$base.new" "$base.exit"; }
"""
# Without --fork the shell's own `&` must do: it makes the command deaf to INT and QUIT, as any init script would.
_LAUNCH = r"""
umask 077
base={folder}
mkdir -p -m 700 -- "$base" || exit 1
base="$base"/{name}
rm -f -- "$base.pid" "$base.exit" "$base.out" "$base.new" "$base.sh"  # a shell may still read the old text: never write into it
printf %b {text} > "$base.sh" || exit 1
umask 022
case $(setsid --help 2>&1) in
  *--fork*) setsid --fork /bin/sh -c {wrap} "$base" {launch} > /dev/null 2>&1 < /dev/null || exit 1;;
  *) setsid /bin/sh -c {wrap} "$base" {launch} > /dev/null 2>&1 < /dev/null &
esac
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
  [ ! -e "$base.pid" ] || {{ echo launched; exit 0; }}
  sleep 0.1
done
echo 'not launched: its wrapper did not come up within 2 s'
exit 1
"""
_POLL = r"""
base={folder}/{name}
launch= pid= ticks=
[ ! -e "$base.pid" ] || read -r launch pid ticks < "$base.pid"
alive() {{
  stat=$(cat "/proc/$pid/stat" 2>/dev/null) || return 1
  stat=${{stat##*") "}}; set -f; set -- $stat
  [ "${{20}}" = "$ticks" ] && [ "$1" != Z ]
}}
if [ "$launch" != {launch} ]; then echo 'command none'
elif [ -s "$base.exit" ]; then printf 'command exit %s\n' "$(cat -- "$base.exit")"
elif alive; then printf 'command running %s\n' "$pid"
elif [ -s "$base.exit" ]; then printf 'command exit %s\n' "$(cat -- "$base.exit")"
else echo 'command lost'; fi
"""
_SHOW = r"""
[ "$launch" != {launch} ] || tail -c {shown} -- "$base.out" 2>/dev/null
"""
# The session of the wrapper, but for the service's own process and what descends from it.
_END = r"""
members() {{
  all=$(ps -e -o pid= -o ppid= -o sess=) skip=' {spare} ' before=
  while [ "$before" != "$skip" ]; do
    before=$skip
    while read -r p parent session; do
      case $skip in *" $p "*) continue;; *" $parent "*) skip="$skip$p ";; esac
    done <<-END
	$all
	END
  done
  while read -r p parent session; do
    case $skip in *" $p "*) ;; *) [ "$session" != "$pid" ] || echo "$p";; esac
  done <<-END
	$all
	END
}}
signal() {{ for one in $(members); do {kill} -s "$1" -- "$one" 2>/dev/null || kill -s "$1" -- "$one" 2>/dev/null; done; }}
if [ "$launch" = {launch} ] && alive; then
  signal TERM
  for i in 1 2 3 4 5 6 7 8 9 10; do alive || break; sleep 0.1; done
  signal KILL
  echo ended
else
  echo 'ended by itself'
fi
"""


@dataclass(frozen=True, kw_only=True)
class Command:
    """How a launched command stands. `none`: it was never launched; `lost`: it ended without saying how."""

    state: Literal["none", "running", "exit", "lost"]
    exit: int | None = None
    output: str = ""

    @property
    def failed(self) -> bool:
        return self.state == "lost" or (self.state == "exit" and self.exit != 0)

    @property
    def last_line(self) -> str:
        """The last line of its output: what a script says when it gives up."""
        lines = [line.strip() for line in self.output.splitlines() if line.strip()]
        return lines[-1][:300] if lines else ""


def _folder(lock: Lock) -> str:
    """Beside the lock: what is shared or not between hosts is then the same for both."""
    return beside(lock) + "/commands"


def words(argv: Sequence[str], run_as: str | None) -> tuple[str, ...]:
    """The words that are run, `sudo` in front where the service runs as another user."""
    return as_user(run_as, argv)


def launch(lock: Lock, name: str, argv: Sequence[str], *, launch: str, run_as: str | None) -> str:
    """Shell text that starts a command and does not wait for its end. `name`: service and verb, as in `jboss.start`."""
    line = join(words(argv, run_as)).encode() + b"\n"
    return _LAUNCH.format(
        folder=_folder(lock), name=quote(name), wrap=quote(_WRAP), launch=quote(launch),
        text=quote("".join(f"\\0{byte:03o}" for byte in line)),
    )  # fmt: skip


def poll(lock: Lock, name: str, *, launch: str) -> str:
    """Shell text that says how the command of this launch stands, and the end of its output."""
    return _POLL.format(folder=_folder(lock), name=quote(name), launch=quote(launch)) + _SHOW.format(
        launch=quote(launch), shown=SHOWN
    )


def end(lock: Lock, name: str, *, launch: str, spare: Proc | None, run_as: str | None) -> str:
    """Shell text that ends the command of this launch, its session only, never `spare` (the service) or its children."""
    killer = join(as_user(run_as, ("kill",)))
    return _POLL.format(folder=_folder(lock), name=quote(name), launch=quote(launch)) + _END.format(
        launch=quote(launch), spare=spare.pid if spare else "nobody", kill=killer
    )


def understand(output: bytes) -> Command:
    """The answer of `poll`. What is no answer is `lost`: a command that nobody can account for."""
    first, _, rest = output.decode("utf-8", "replace").partition("\n")
    word, _, more = first.removeprefix("command ").partition(" ")
    if word == "exit" and more.strip().isdigit():
        return Command(state="exit", exit=int(more), output=rest)
    if word == "running":
        return Command(state="running", output=rest)
    return Command(state="none" if word == "none" else "lost", output=rest)
