"""Taking a host out of its VIP and back: what to say, and what the answer means, for each kind of drain. Pure.

`file`: a heartbeat file on the host itself. `haproxy`: its runtime socket, here or on another host; it answers errors as
text. `command` says nothing of itself but the words of the inventory; how they end is judged here too.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass

from bbctl.model import VipState
from bbctl.remote.shell import quote


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a host stands in a VIP. `serving`: the VIP sends it work now (None: it cannot tell); `sessions` still open."""

    state: VipState
    error: str | None = None
    serving: bool | None = None
    sessions: int | None = None


def unknown(error: str) -> Place:
    return Place(state="unknown", error=error)


# -- file ------------------------------------------------------------------------------------------------------

_FILE_STATE = r"""
f={path}
if [ -e "$f" ]; then echo 'vip in'
elif [ -d "$(dirname -- "$f")" ] && [ -x "$(dirname -- "$f")" ]; then echo 'vip out'
else echo 'vip unknown'
fi
"""
_FILE_OUT = r"""
f={path}
rm -f -- "$f" || exit 1
[ ! -e "$f" ] || {{ echo "$f is still there" >&2; exit 1; }}
echo 'vip out'
"""
_FILE_IN = r"""
f={path}
[ -e "$f" ] || : > "$f" || exit 1
[ -e "$f" ] || {{ echo "$f is not there" >&2; exit 1; }}
echo 'vip in'
"""


def file_state(path: str) -> str:
    """Shell text that says whether the heartbeat file is there. It changes nothing."""
    return _FILE_STATE.format(path=quote(path))


def file_out(path: str) -> str:
    """Shell text that removes the heartbeat file and sees that it is gone."""
    return _FILE_OUT.format(path=quote(path))


def file_in(path: str) -> str:
    """Shell text that makes the heartbeat file, as the login user, and sees that it is there."""
    return _FILE_IN.format(path=quote(path))


def understand_file(output: bytes, path: str) -> Place:
    lines = output.decode("utf-8", "replace").splitlines()
    if "vip in" in lines:
        return Place(state="in", serving=True)
    if "vip out" in lines:
        return Place(state="out", serving=False)
    said = " ".join(line for line in lines if line.strip() and not line.startswith("vip "))
    return unknown(said[-200:] or f"there is no folder for {path}")


# -- haproxy ---------------------------------------------------------------------------------------------------

# Bits of srv_admin_state: forced, inherited and configured maintenance, resolution; forced and inherited drain.
_MAINTENANCE, _DRAINING = 0x01 | 0x02 | 0x04 | 0x20, 0x08 | 0x10
_RUNNING = 2  # srv_op_state

# A socket has no POSIX command: whichever of these the host has. $1 socket, $2 what to say; 5 seconds in all.
_ASK_PYTHON = """
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.settimeout(4)
s.connect(sys.argv[1])
s.sendall(sys.argv[2].encode() + b"\\n")
while True:
    data = s.recv(65536)
    if not data:
        break
    sys.stdout.buffer.write(data)
"""
_ASK_PERL = """
use Socket;
alarm 4;
my $s;
socket($s, AF_UNIX, SOCK_STREAM, 0) and connect($s, sockaddr_un($ARGV[0])) or die "$!\\n";
syswrite($s, "$ARGV[1]\\n");
while (sysread($s, my $data, 65536)) { print $data; }
"""
# One that is there and broken is passed over; one that had to be ended (124) has its answer: there is none.
_ASK = r"""
set -- {socket} {words}
by() {{ case $1 in
  python3) timeout 5 python3 -c {python} "$2" "$3";;
  perl) timeout 5 perl -e {perl} "$2" "$3";;
  socat) printf '%s\n' "$3" | timeout 5 socat -t4 - "UNIX-CONNECT:$2";;
  nc) printf '%s\n' "$3" | timeout 5 nc -U "$2";;
esac; }}
code=90
for tool in python3 perl socat nc; do
  command -v $tool >/dev/null 2>&1 || continue
  by $tool "$@"; code=$?
  case $code in 0|124) break;; esac
done
[ $code -ne 90 ] || echo 'none of python3, perl, socat, nc is there to speak to its socket' >&2
printf '\nasked %s\n' $code
"""


def haproxy_ask(socket: str, words: str) -> str:
    """Shell text that says `words` to an HAProxy socket on the host it runs on."""
    return _ASK.format(socket=quote(socket), words=quote(words), python=quote(_ASK_PYTHON), perl=quote(_ASK_PERL))


def understand_asked(output: bytes, errors: bytes) -> str:
    """HAProxy's answer out of `haproxy_ask`. Raises ValueError with the cause where it did not answer."""
    answer, _, code = output.decode("utf-8", "replace").rpartition("\nasked ")
    if code.strip() == "0":
        return answer
    if code.strip() == "124":
        raise ValueError("HAProxy did not answer within 5 s")
    raise ValueError(
        (errors.decode("utf-8", "replace").strip().splitlines() or ["HAProxy's socket did not answer"])[-1]
    )


def haproxy_set(backend: str, server: str, state: str) -> str:
    """The words that put a server into a state (`drain` or `ready`). Raises ValueError for names that are no names."""
    for name in (backend, server):
        if not re.fullmatch(r"[A-Za-z0-9_.:-]+", name):
            raise ValueError(f"{name!r} is no name of HAProxy's")
    return f"set server {backend}/{server} state {state}"


HAPROXY_STATES = "show servers state; show stat"


def understand_set(answer: str) -> str | None:
    """None where HAProxy took it (it then says nothing), else its complaint."""
    return " ".join(answer.split()) or None


def understand_states(answer: str) -> dict[tuple[str, str], Place]:
    """(backend, server) → place, out of `show servers state` and `show stat` in one answer."""
    columns: list[str] = []
    places: dict[tuple[str, str], Place] = {}
    head, _, stat = answer.partition("# pxname,")
    sessions = _sessions("pxname," + stat) if stat else {}
    for line in head.splitlines():
        if line.startswith("# "):
            columns = line[2:].split()
        elif columns and len(fields := line.split(" ")) > 6:
            row = dict(zip(columns, fields, strict=False))
            key = (row.get("be_name", ""), row.get("srv_name", ""))
            places[key] = _place(row, sessions.get(key))
    return places


def _place(row: Mapping[str, str], sessions: int | None) -> Place:
    admin, operation = int(row.get("srv_admin_state", "0")), int(row.get("srv_op_state", "0"))
    out = bool(admin & (_MAINTENANCE | _DRAINING))
    return Place(state="out" if out else "in", serving=not out and operation == _RUNNING, sessions=sessions)


def _sessions(text: str) -> dict[tuple[str, str], int]:
    rows = csv.DictReader(io.StringIO(text))
    return {(r["pxname"], r["svname"]): int(r.get("scur") or 0) for r in rows if r.get("pxname") and r.get("svname")}


def place_of(answer: str, backend: str, server: str) -> Place:
    """Where one server stands. What HAProxy does not know, or an answer that is no table: unknown, with its words."""
    try:
        places = understand_states(answer)
    except ValueError as error:
        return unknown(f"HAProxy's answer cannot be understood: {error}")
    if not places:
        return unknown(f"HAProxy says: {' '.join(answer.split())[:160] or 'nothing'}")
    found = places.get((backend, server))
    return found or unknown(f"HAProxy knows no server {backend}/{server}")


# -- command ---------------------------------------------------------------------------------------------------


def understand_command(exit: int | None, output: bytes, errors: bytes) -> Place:
    """What a `state` command of the inventory said: it prints `in` or `out`."""
    word = output.decode("utf-8", "replace").strip().lower()
    if exit == 0 and word in ("in", "out"):
        return Place(state="in" if word == "in" else "out", serving=word == "in")
    said = (errors or output).decode("utf-8", "replace").strip()[-160:]
    how = "did not end in time" if exit is None else f"ended with {exit}"
    return unknown(f"the state command {how}" + (f": {said}" if said else ""))
