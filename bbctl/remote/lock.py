"""The lock of a host: one record in a file on it, changed under flock and by rename, so never seen half.

It belongs to whoever holds the run's token: the record shows only the token's SHA-256. All times are by the host's
clock, in nanoseconds. Whoever takes, renews, releases or acts under it compares in the same remote step.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Literal, get_args
from urllib.parse import quote as percent
from urllib.parse import unquote

from bbctl.model import Lock, LockRecord
from bbctl.remote.shell import quote

LOST = 97  # exit of a guarded step whose lock was lost: nothing of its body ran
_FIELDS = ("operator", "machine", "run", "reason", "since", "step", "renewed", "expires", "hash", "out")
State = Literal["none", "ours", "held", "expired", "lost", "released", "busy", "failed", "unreadable"]

# $lock is the path, $fail the exit of what cannot go on. Sets now, and of the record hash (none: empty) and expires.
_READ = r"""
get() { case $whole in *"$nl$1 "*) value=${whole#*"$nl$1 "}; value=${value%%"$nl"*};; *) value=;; esac; }
load() {
  now=$(date +%s%N) hash= expires=0 record=
  if [ -p "$lock" ] || [ -d "$lock" ] || [ -c "$lock" ]; then hash=unreadable; return; fi
  for try in 1 2 3; do  # outside the flock it may come and go between two looks
    if record=$(head -c 16384 -- "$lock" 2>/dev/null); then
      whole="$nl$record$nl"
      get expires; expires=$value; get hash; hash=${value:-unreadable}
      case $expires in ''|*[!0-9]*) hash=unreadable expires=0;; esac
      return
    fi
    [ -e "$lock" ] || return 0
  done
  stop failed 'the record cannot be read'
}
stop() { printf 'lock %s %s\n' "$1" "$2"; exit $fail; }
sum() { printf %s "$record" | sha256sum; }
show() { printf 'lock %s\nsum %s\nnow %s\n%s\n' "$1" "$(sum)" "$now" "$record"; }
load
"""
_OPEN = r"""
umask 077
dir=${lock%/*}
[ -d "$dir" ] || mkdir -p -m 700 -- "$dir" || stop failed "its folder $dir cannot be made"
{ : >> "$lock.flock"; } || stop failed "its folder $dir cannot be written to"
exec 9>>"$lock.flock"
flock -w 10 9 || stop busy 'another step holds it for over 10 s'
load
"""
_PUT = r"""
put() {
  why=$({ printf '%s\n' "$record" | cat > "$lock.new" && mv -f -- "$lock.new" "$lock"; } 2>&1) ||
    stop failed "the record cannot be written: ${why##*: }"
}
"""
# $dir becomes the folder of the lock, or the nearest above it that is there.
_PROBE = r"""
dir=${lock%/*}
while [ -n "$dir" ] && [ ! -e "$dir" ]; do dir=${dir%/*}; done
dir=${dir:-/}
if [ ! -d "$dir" ]; then echo "$dir is no folder"
elif [ ! -w "$dir" ] || [ ! -x "$dir" ]; then echo "$dir may not be written to by $(id -un)"
elif [ -e "$lock.flock" ] && [ ! -w "$lock.flock" ]; then echo "$lock.flock may not be written to by $(id -un)"
else echo yes; fi
"""


@dataclass(frozen=True, kw_only=True)
class Locked:
    """What the host answered. `record` is the record in force (after `held`, the other's); `detail` names a failure;
    `sum` is the record's SHA-256, by which one that cannot be understood is known again."""

    state: State
    record: LockRecord | None = None
    detail: str = ""
    sum: str = ""

    @property
    def ours(self) -> bool:
        return self.state == "ours"


def digest(token: str) -> str:
    """What the record shows of a token."""
    return sha256(token.encode()).hexdigest()


def _place(lock: Lock) -> str:
    path = lock.path
    return f'"$HOME"/{quote(path[2:])}' if path.startswith("~/") else quote(path)


def _head(lock: Lock, *, fail: int = 1) -> str:
    return f"lock={_place(lock)} fail={fail} nl='\n'\n" + _READ


def _span(lock: Lock) -> str:
    return str(int(lock.expires * 1e9))


def read(lock: Lock) -> str:
    """Shell text that shows the record. Takes nothing, makes nothing."""
    return _head(lock) + 'if [ -n "$hash" ]; then show read; else show none; fi\n'


def probe(lock: Lock) -> str:
    """Shell text that says `yes` where a lock could be written, else why not. Makes nothing."""
    return f"lock={_place(lock)}\n" + _PROBE


def acquire(lock: Lock, token: str, *, fields: Mapping[str, str], old_token: str | None = None) -> str:
    """Shell text that takes the lock where it is free, expired, ours already, or proven by `old_token`.

    `fields`: operator, machine, run, reason, step. Answers `ours` with the record as written, or `held` with the other's.
    """
    known = [digest(token), *([digest(old_token)] if old_token else [])]
    told = {key: quote(_plain(value)) for key, value in fields.items()}
    pairs = " ".join(f"{key} {told[key]}" if key in told else f'{key} "${key}"' for key in _FIELDS)
    return (
        _head(lock)
        + _OPEN
        + _PUT
        + f"""
since=$now
case $hash in
  '') ;;
  {"|".join(known)}) get since; since=$value;;
  unreadable) show unreadable; exit 1;;
  *) [ "$now" -ge "$expires" ] || {{ show held; exit 1; }};;
esac
renewed=$now expires=$((now + {_span(lock)})) hash={known[0]} out=0
record=$(printf '%s %s\n' {pairs})
put
show ours
"""
    )


def renew(lock: Lock, token: str, *, step: str | None = None, out: bool | None = None) -> str:
    """Shell text that renews our lock and says which step is under way, and whether this host is out. Else `lost`."""
    changes = {"step": None if step is None else _plain(step), "out": None if out is None else str(int(out))}
    cases = "".join(f"    {key}) value={quote(value)};;\n" for key, value in changes.items() if value is not None)
    return (
        _head(lock)
        + _mine(token)
        + _OPEN
        + _mine(token)
        + _PUT
        + f"""
record=$(printf '%s\n' "$record" | while read -r key value; do
  case $key in
    renewed) value=$now;;
    expires) value=$((now + {_span(lock)}));;
{cases}  esac
  printf '%s %s\n' "$key" "$value"
done)
put
show ours
"""
    )


def _mine(token: str) -> str:
    # Asked before the folder is touched, and again under flock: who has lost the lock makes nothing. One that ran out is
    # lost too, though nobody took it: meanwhile others may have counted on this host, whose claim was no longer seen.
    return f'[ "$hash" = {digest(token)} ] && [ "$now" -lt "$expires" ] || {{ show lost; exit $fail; }}\n'


def release(lock: Lock, token: str) -> str:
    """Shell text that removes our lock; `lost` where another's lies there, `none` where there is none."""
    return _remove(lock, f'[ "$hash" = {digest(token)} ]')


def break_open(lock: Lock, shown: Locked) -> str:
    """Shell text that removes exactly the lock that was shown, understood or not; `lost` if it is another by now."""
    if shown.record is not None:
        return _remove(lock, f'[ "$hash" = {quote(shown.record.token_hash)} ]')
    return _remove(lock, f'[ "$(sum)" = {quote(shown.sum)} ]')


def _remove(lock: Lock, same: str) -> str:
    free = '[ -n "$hash" ] || { show none; exit 0; }\n'
    return (
        _head(lock)
        + free
        + _OPEN
        + free
        + f"""
{same} || {{ show lost; exit 1; }}
rm -f -- "$lock" || stop failed 'the record cannot be removed'
show released
"""
    )


def guarded(lock: Lock, token: str, body: str) -> str:
    """Shell text that runs `body` only while we hold the lock, and keeps it from changing hands meanwhile.

    Where the lock is lost: exit 97, a report that `lost` reads, and nothing of `body` has run. Else the body's own
    output and exit. A body must end by itself within seconds (renewals wait for it); what it leaves in the
    background does not inherit the lock.
    """
    return _head(lock, fail=LOST) + _mine(token) + _OPEN + _mine(token) + f"(\n{body}\n) 9>&-\n"


def understand(output: bytes) -> Locked:
    """The answer of read, acquire, renew, release and break_open. An answer that is none of ours: state `failed`."""
    lines = output.decode("utf-8", "replace").splitlines()
    start = next((n for n, line in enumerate(lines) if line.startswith("lock ")), None)
    if start is None:
        return Locked(state="failed", detail=" ".join(lines)[-200:] or "the host said nothing")
    word, _, detail = lines[start].removeprefix("lock ").partition(" ")
    found: dict[str, str] = {}
    for line in lines[start + 1 :]:
        key, _, value = line.partition(" ")
        found.setdefault(key, value)
    record = _record(found)
    noise = " ".join(lines[:start])
    if word == "read" and record is not None:
        word = "expired" if record.left <= 0 else "held"
    if word in ("read", "held") and record is None:
        word = "unreadable"
    if word == "unreadable":
        detail = detail or "its record cannot be understood"
    if word not in get_args(State):
        return Locked(state="failed", detail=lines[start])
    state: State = word  # type: ignore[assignment]
    detail = f"{detail} ({noise})" if noise else detail
    return Locked(state=state, record=record, detail=detail, sum=found.get("sum", ""))


def lost(exit: int | None, output: bytes) -> Locked | None:
    """The report of a guarded step that did not run because the lock was lost or could not be proven; None if it ran."""
    if exit != LOST or b"lock " not in output[:4096]:
        return None
    return understand(output)


def _record(found: Mapping[str, str]) -> LockRecord | None:
    if not set(_FIELDS) <= set(found) or not all(_digits(found[k]) for k in ("since", "renewed", "expires")):
        return None
    if not re.fullmatch("[0-9a-f]{64}", found["hash"]) or not re.fullmatch(r"[\w.-]{1,64}", found["run"]):
        return None  # the run's name is shown as a part of commands to type
    now = int(found.get("now", found["renewed"])) / 1e9
    renewed, expires = int(found["renewed"]) / 1e9, int(found["expires"]) / 1e9
    words = {k: unquote(found[k]).strip() for k in ("operator", "machine", "run", "reason", "step")}
    return LockRecord(
        **words, since=int(found["since"]) / 1e9, renewed=renewed, expires=expires, token_hash=found["hash"],
        out=found["out"] == "1", age=max(0.0, now - renewed), left=expires - now,
    )  # fmt: skip


def _digits(text: str) -> bool:
    return re.fullmatch("[0-9]{1,19}", text) is not None


def _plain(text: str) -> str:
    """A field as one line that a person can read: what is no plain character is percent-encoded."""
    return percent(text, safe=" ,.:;@/()'\"#+=!?&*<>[]{}|$~^`")
