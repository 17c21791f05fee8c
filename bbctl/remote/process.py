"""Which process is the service, and a signal that can reach no other.

Who a process is: pid, start time in ticks, boot id; uid and command line must agree too. The listing carries every
process of the asked users with `stat` and `cmdline` from /proc; the pattern is applied here, never on the host, so no
command line of ours can match it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

from bbctl.model import Proc, Process
from bbctl.redact import mask
from bbctl.remote.shell import quote

TICKS = 100  # USER_HZ: what /proc shows is in hundredths on every Linux we meet
KEEP = 131072  # bytes of a command line that are read
SIGNALS = (
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
)  # fmt: skip
NUMBERS = {name: number for number, name in enumerate((*SIGNALS[:15], "STKFLT", *SIGNALS[15:]), start=1)}

# -- listing ---------------------------------------------------------------------------------------------------

_LIST = r"""
printf 'me %s\n' $$
read -r boot < /proc/sys/kernel/random/boot_id
read -r up rest < /proc/uptime
printf 'boot %s\nup %s\nnow %s\n' "$boot" "$up" "$(date +%s%N)"
while read -r key value; do [ "$key" != btime ] || printf 'btime %s\n' "$value"; done < /proc/stat
uids=
for user in {users}; do
  if uid=$(id -u -- "$user" 2>/dev/null); then uids="$uids $uid"; printf 'user %s %s\n' "$uid" "$user"; fi
done
ps -e -o pid= -o ppid= -o euid= -o state= -o nlwp= | {{
  set --
  while read -r pid parent uid state threads; do
    printf 'p %s %s %s\n' "$pid" "$parent" "$uid"
    case "$uids " in *" $uid "*) ;; *) continue;; esac
    line=/proc/$pid/cmdline
    if [ "$state" = Z ] && [ "$threads" -gt 1 ]; then  # its first thread has ended; another may tell
      for line in "/proc/$pid/task/"*/cmdline; do
        [ -z "$(head -c 1 -- "$line" 2>/dev/null)" ] || break
      done
    fi
    set -- "$@" "/proc/$pid/stat" "$line"
  done
  echo .
  [ $# -eq 0 ] || head -v -c {keep} -- "$@" 2>/dev/null
}}
"""
_PIDFILE = r"""
for f in {paths}; do
  said=
  [ ! -f "$f" ] || said=$(head -c 64 -- "$f" 2>/dev/null | tr '\n' ' ')
  printf '\npidfile %s\n' "$said"
done
"""


def listing(users: Sequence[str]) -> str:
    """Shell text that lists the processes of these users, and of everybody pid, parent and uid (for ancestors)."""
    return _LIST.format(users=" ".join(quote(u) for u in dict.fromkeys(users)), keep=KEEP)


def pidfiles(paths: Sequence[str]) -> str:
    """Shell text that prints the beginning of each pid file, one a line, in this order."""
    return _PIDFILE.format(paths=" ".join(quote(p) for p in paths))


@dataclass(frozen=True, kw_only=True)
class Listing:
    """`parents` of all processes; `procs` those of the asked users that are ours to look at; `users` uid → name; `now` by
    the host's clock, `up` the seconds since it was booted, `btime` the whole second of that."""

    boot: str
    now: float
    up: float
    parents: Mapping[int, int]
    procs: tuple[Proc, ...]
    users: Mapping[int, str]
    btime: int | None = None

    def ancestors(self, pid: int) -> list[int]:
        """The pids above a process, its parent first. Ends even where a torn table holds a ring."""
        above: list[int] = []
        at = self.parents.get(pid, 0)
        while at > 0 and at not in above:
            above.append(at)
            at = self.parents.get(at, 0)
        return above


_FILE = re.compile(rb"(?:^|\n)==> /proc/(\d+)/(?:task/\d+/)?(stat|cmdline) <==\n")


def understand(output: bytes) -> Listing:
    """The listing out of what the host printed. Raises ValueError where the head of the answer is not whole."""
    head, _, files = output.partition(b"\n.\n")
    said: dict[str, list[str]] = {"user": [], "p": []}
    for line in head.decode("utf-8", "replace").splitlines():
        word, _, rest = line.partition(" ")
        said.setdefault(word, []).append(rest)
    if not {"me", "boot", "up", "now"} <= set(said):
        raise ValueError("the host's process list is not whole: " + output[:200].decode("utf-8", "replace").strip())
    table = [tuple(int(n) for n in row.split()) for row in said["p"]]
    listed = Listing(
        boot=said["boot"][0],
        now=int(said["now"][0]) / 1e9,
        up=float(said["up"][0]),
        parents={pid: parent for pid, parent, _ in table},
        procs=(),
        btime=int(said["btime"][0]) if "btime" in said else None,
        users={int(uid): name for uid, _, name in (row.partition(" ") for row in said["user"])},
    )
    me, owners = int(said["me"][0]), {pid: uid for pid, _, uid in table}
    found: dict[int, dict[bytes, bytes]] = {}
    pieces = _FILE.split(files)
    for number, kind, content in zip(pieces[1::3], pieces[2::3], pieces[3::3], strict=True):
        found.setdefault(int(number), {}).setdefault(kind, content)
    procs = [
        proc
        for pid, both in found.items()
        if pid != me and me not in listed.ancestors(pid)  # the question itself
        if (proc := _proc(pid, both, listed, listed.up, listed.users.get(owners.get(pid, -1), "?"))) is not None
    ]
    return replace(listed, procs=tuple(procs))


def _proc(pid: int, files: Mapping[bytes, bytes], listed: Listing, up: float, user: str) -> Proc | None:
    """A process out of its `stat` and `cmdline`; None where it ended while they were read."""
    fields = files.get(b"stat", b"").rpartition(b") ")[2].split()
    if len(fields) < 20 or b"cmdline" not in files:
        return None
    ended = fields[0] in (b"Z", b"X") and int(fields[17]) <= 1
    begun = int(fields[19]) / TICKS
    age = up - begun
    return Proc(
        pid=pid,
        ppid=listed.parents.get(pid, 0),
        ended=ended,
        ticks=int(fields[19]),
        started=listed.now - age,
        age=max(0.0, age),
        boot=listed.boot,
        born=None if listed.btime is None else listed.btime + begun,
        user=user,
        command=files[b"cmdline"].rstrip(b"\0").replace(b"\0", b" ").decode("utf-8", "replace").rstrip(),
    )


def understand_pidfiles(output: bytes) -> list[str]:
    """What each pid file said, blanks stripped; empty for one that is missing, unreadable or empty."""
    return [line[8:].strip() for line in output.decode("utf-8", "replace").splitlines() if line.startswith("pidfile ")]


def uptime(proc: Proc | None) -> float | None:
    """How long its machine had been up when this process was looked at, in seconds."""
    return None if proc is None else proc.ticks / TICKS + proc.age


# -- choosing --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Found:
    """`proc`: the one process that is the service, None where there is none or none can be named (then `ambiguous` says why)."""

    proc: Proc | None
    candidates: tuple[Proc, ...]
    ambiguous: str | None = None


def choose(listed: Listing, process: Process, pidfile: str | None = None) -> Found:
    """Search the pattern among the user's processes. A match whose ancestor matches too is its child, no second candidate.

    `pidfile` is what the pid file said (None: the service names none). It must then name the one that matches.
    """
    pattern = re.compile(process.match, re.IGNORECASE)
    matching = [p for p in listed.procs if p.user == process.user and not p.ended and pattern.search(p.command)]
    pids = {p.pid for p in matching}
    tops = tuple(p for p in matching if not pids.intersection(listed.ancestors(p.pid)))
    if len(tops) > 1:
        named = ", ".join(str(p.pid) for p in tops)
        return Found(proc=None, candidates=tops, ambiguous=f"{len(tops)} processes match: {named}")
    if tops and pidfile is not None and pidfile != str(tops[0].pid):
        said = f"names {pidfile!r}" if pidfile else "names nothing"
        why = f"process {tops[0].pid} matches, but the pid file {process.pidfile} {said}"
        return Found(proc=None, candidates=tops, ambiguous=why)
    return Found(proc=tops[0] if tops else None, candidates=tops)


def describe(procs: Sequence[Proc]) -> str:
    """Candidates for a person: pid, user, age and command line of each."""
    return "; ".join(f"{p.pid} ({p.user}, up {p.age:.0f}s: {mask(p.command)[:120]})" for p in procs)


# -- signalling ------------------------------------------------------------------------------------------------

# What must agree right before the signal. $1 pid, $2 boot id, $3 ticks, $4 user, $5 fingerprint of the command line.
# Exit 0: it is the one. 3: gone. 4: another. 5: a zombie (its parent is printed). A process that is ending has no command
# line any more, and may stay so for long: its other threads, or the files that it closes, wait for a disk. So the command
# line is read first: a process that ends in between is then known to be ending.
_CHECK = r"""
read -r boot < /proc/sys/kernel/random/boot_id
[ "$boot" = "$2" ] || { echo "the host was booted since"; exit 4; }
now=$(head -c KEEP -- "/proc/$1/cmdline" 2>/dev/null | tr -cd '\41-\176' | sha256sum)
stat=$(cat "/proc/$1/stat" 2>/dev/null) || exit 3
rest=${stat##*") "}
pid=$1 ticks=$3 user=$4 print=$5
set -f
set -- $rest
[ "${20}" = "$ticks" ] || { echo "pid $pid was given to a process started at another time"; exit 4; }
case $1 in Z|X) [ "${18}" -gt 1 ] || { echo "$2"; exit 5; };; esac
exiting=$(($7 & 4))
uid=
while read -r word real effective more; do
  if [ "$word" = Uid: ]; then uid=$effective; fi
done 2>/dev/null < "/proc/$pid/status" || exit 3
[ -n "$uid" ] || exit 3
[ "$uid" = "$(id -u -- "$user")" ] || { echo "pid $pid now runs as uid $uid"; exit 4; }
[ $exiting -eq 0 ] || exit 0
[ "${now%% *}" = "$print" ] || { echo "pid $pid now runs another command"; exit 4; }
""".replace("KEEP", str(KEEP))

# A pidfd is opened first, then the identity is proven, then the signal goes through the pidfd: it cannot reach
# another process even if the pid is reused in between. 434 and 424 are pidfd_open and pidfd_send_signal everywhere.
_PERL = r"""
my ($check, $number, @who) = @ARGV;
my $fd = syscall(434, $who[0] + 0, 0);
exit($!{ESRCH} ? 3 : 9) if $fd < 0;
my $code = system("/bin/sh", "-c", $check, "sh", @who);
exit($code >> 8) if $code;
exit 0 if syscall(424, $fd, $number + 0, 0, 0) == 0;
exit 3 if $!{ESRCH};
print "$!\n";
exit 6;
"""
_PYTHON = r"""
import os, signal, subprocess, sys
check, number, who = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
try:
    fd = os.pidfd_open(int(who[0]))
except ProcessLookupError:
    sys.exit(3)
except (AttributeError, OSError):
    sys.exit(9)
code = subprocess.call(["/bin/sh", "-c", check, "sh"] + who)
if code:
    sys.exit(code)
try:
    signal.pidfd_send_signal(fd, number)
except ProcessLookupError:
    sys.exit(3)
except OSError as error:
    print(error.strerror)
    sys.exit(6)
"""
_SIGNAL = r"""
check={check} number={number} name={name} how=
set -- {who}
as() {{ {become}"$@"; }}
try() {{
  how=$1; shift
  said=$(as "$@" 2>&1); code=$?
  case $code in 0|3|4|5|6) return 0;; esac
  return 1
}}
if command -v perl >/dev/null 2>&1 && try pidfd:perl perl -MErrno -e {perl} "$check" "$number" "$@"; then :
elif command -v python3 >/dev/null 2>&1 && try pidfd:python3 python3 -c {python} "$check" "$number" "$@"; then :
else
  how=kill
  said=$(/bin/sh -c "$check" sh "$@" 2>&1); code=$?
  if [ $code -eq 0 ]; then said=$({kill} -s "$name" -- "$1" 2>&1) || code=6; fi
fi
printf 'signal %s %s %s\n' "$code" "$how" "$said"
"""

_ONLY = r"""
said=$(/bin/sh -c {check} sh {who} 2>&1) || {{ printf 'not the process: %s\n' "$said" >&2; exit 4; }}
{body}
"""

# QUIT is the third signal: the bit of value 4 in the last digit of the mask. Without a handler it ends a process.
_IF_HEARD = r"""
mask=$(while read -r word mask; do [ "$word" != SigCgt: ] || echo "$mask"; done 2>/dev/null < /proc/{pid}/status)
case $mask in
  ''|*[4567cdefCDEF]) ;;
  *) echo 'signal 7 - it does not handle QUIT and would die of it: no JVM, or one started with -Xrs'; exit 7;;
esac
{body}
"""

OUTCOMES = {0: "sent", 3: "gone", 4: "changed", 5: "zombie", 6: "denied", 7: "deadly"}


@dataclass(frozen=True, kw_only=True)
class Signalled:
    """`outcome`: sent, gone, changed (another process now), zombie (`detail` is its parent's pid), denied, deadly or unclear."""

    outcome: str
    how: str
    detail: str


def fingerprint(command: str) -> str:
    """SHA-256 over the printable ASCII of a command line: computed alike here and, by `tr`, on the host."""
    return sha256("".join(c for c in command if "!" <= c <= "~").encode()).hexdigest()


def signal(proc: Proc, name: str, *, become: str | None = None) -> str:
    """Shell text that proves who `proc` is and signals it, in this one step. `become`: the user to be, by `sudo -n`.

    Raises ValueError for a pid below 2 and a signal that is none of SIGNALS.
    """
    if proc.pid < 2 or name not in SIGNALS:
        raise ValueError(f"no signal {name} for pid {proc.pid}")
    sudo = f"sudo -n -u {quote(become)} -- " if become else ""
    return _SIGNAL.format(
        check=quote(_CHECK), number=NUMBERS[name], name=name, perl=quote(_PERL), python=quote(_PYTHON),
        who=_who(proc), become=sudo, kill=f"{sudo}kill",
    )  # fmt: skip


def understand_signal(output: bytes) -> Signalled:
    for line in output.decode("utf-8", "replace").splitlines():
        word, _, rest = line.partition(" ")
        code, _, rest = rest.partition(" ")
        if word == "signal" and code.isdigit():
            how, _, detail = rest.partition(" ")
            return Signalled(outcome=OUTCOMES.get(int(code), "denied"), how=how, detail=detail.strip())
    return Signalled(outcome="unclear", how="", detail=output[-200:].decode("utf-8", "replace").strip())


def become(login: str, proc: Proc) -> str | None:
    """The user to be, by `sudo -n`, to signal a process: its owner, unless we logged in as that or as root."""
    return None if login in (proc.user, "root") else proc.user


def only(proc: Proc, body: str) -> str:
    """Shell text that runs `body` only where the process is proven to be the one; else exit 4 and the cause on stderr."""
    return _ONLY.format(check=quote(_CHECK), who=_who(proc), body=body)


def if_heard(proc: Proc, body: str) -> str:
    """Shell text that runs `body`, which asks for a thread dump by QUIT, only where the process would not die of that;
    else it answers like `signal`: deadly."""
    return _IF_HEARD.format(pid=proc.pid, body=body)


_WAIT = r"""
set -- {who}
tenths={tenths}
while :; do
  said=$(/bin/sh -c {check} sh "$@" 2>/dev/null); code=$?
  case $code in 3|4|5) break;; esac
  [ $tenths -gt 0 ] || break
  tenths=$((tenths - 2))
  sleep 0.2
done
if [ $code -eq 0 ]; then
  said=$(cat /proc/"$1"/task/*/stat 2>/dev/null | while read -r stat; do
    case ${{stat##*") "}} in D\ *) echo "D $(cat "/proc/$1/task/${{stat%% *}}/wchan" 2>/dev/null)"; break;; esac
  done)
fi
printf 'signal %s wait %s\n' "$code" "$said"
"""


def wait_gone(proc: Proc, seconds: float) -> str:
    """Shell text that waits until the process is gone, at most `seconds`; answers like `signal`: sent means it still
    lives, and its `detail` is then for `asleep`. A zombie is told at once."""
    return _WAIT.format(who=_who(proc), check=quote(_CHECK), tenths=max(0, round(seconds * 10)))


def asleep(proc: Proc, detail: str) -> str | None:
    """Why a process outlives even KILL, for a person, out of what `wait_gone` said of one that still lives; None where none
    of its threads sleeps uninterruptibly."""
    state, _, where = detail.partition(" ")
    if state != "D":
        return None
    call = "" if where in ("", "0") else f", in {where}"
    return (
        f"process {proc.pid} is in uninterruptible sleep (state D{call}): no signal ends it, nor does KILL, until the disk or "
        "file server that it waits for answers, or the host is booted"
    )


def look_at(host: str, pid: int) -> str:
    """The command that shows what each thread of a process waits for."""
    return f"bbctl exec {host} -- ps -L -o pid,lwp,state,wchan:32,comm -p {pid}"


def _who(proc: Proc) -> str:
    return " ".join(quote(w) for w in (str(proc.pid), proc.boot, str(proc.ticks), proc.user, fingerprint(proc.command)))
