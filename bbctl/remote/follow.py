"""Following a log through whatever becomes of it: renamed and made anew, cut in place, deleted, or not there yet.

The file stays open under its number, so what is still written to it after a rename is read too, for ten seconds more; what
is read is never read twice. Remarks go to stderr as `note …` lines.
"""

from __future__ import annotations

from bbctl.remote.shell import as_user, join, quote, script

_LOOP = r"""
f=$1 from=$2
note() { printf 'note %s\n' "$1" >&2; }
place() { while read -r key value; do [ "$key" != pos: ] || pos=$value; done < "/proc/$$/fdinfo/3"; }
first() { case $from in
  +*) tail -c "$from" <&3;;
  0) cat <&3 > /dev/null;;
  *) tail -n "$from" <&3;;
esac; }
open= told= old=0 pos=0
while :; do
  if [ -z "$open" ]; then
    if [ -e "$f" ] && command exec 3< "$f"; then
      open=1
      if [ -z "$told" ]; then first || exit 1; fi
      told= ; place
    elif [ -e "$f" ]; then note 'cannot be read'; exit 1
    elif [ -z "$told" ]; then told=1; note 'is not there yet; waiting for it'
    fi
  else
    before=$pos
    cat <&3 || exit 1
    place
    if [ "$f" -ef "/proc/$$/fd/3" ]; then
      told=
      if [ "$pos" = "$before" ] && size=$(stat -L -c %s -- "$f" 2>/dev/null) && [ "$size" -lt "$pos" ]; then
        note 'was cut; what follows is its new beginning'
        command exec 3< "$f" && pos=0
        continue
      fi
    elif [ -e "$f" ]; then
      exec 4<&3
      old=40
      command exec 3< "$f" && pos=0 && note 'was replaced; what follows is the new file'
      continue
    elif [ -z "$told" ]; then told=1; note 'is gone; waiting for a new one'
    fi
  fi
  if [ $old -gt 0 ]; then
    cat <&4 || exit 1
    old=$((old - 1))
    [ $old -gt 0 ] || exec 4<&-
  fi
  sleep 0.25
done
"""


def follow(path: str, *, run_as: str | None, lines: int = 0, start: int | None = None) -> str:
    """Shell text that prints the last `lines` lines of a log, or all from offset `start`, and then what is added, for ever."""
    return _readable(path, run_as, _words(_LOOP, path, str(lines) if start is None else f"+{start + 1}"))


def last(path: str, *, run_as: str | None, lines: int) -> str:
    """Shell text for the last `lines` lines of a log, as they are."""
    return _readable(path, run_as, ("tail", "-n", str(lines), "--", path))


def whole(path: str, *, run_as: str | None, start: int = 0) -> str:
    """Shell text for all of a log, from offset `start`."""
    return _readable(path, run_as, ("tail", "-c", f"+{start + 1}", "--", path))


def _words(text: str, *args: str) -> tuple[str, ...]:
    return ("/bin/sh", "-c", text, "sh", *args)


def _readable(path: str, run_as: str | None, words: tuple[str, ...]) -> str:
    """The words as they are where we may read the log (or it is not there), else as the service's user. What is no regular
    file is not read: a pipe would be waited for, and robbed of what others are to get."""
    said = "echo 'note cannot be read: it is no regular file' >&2; exit 1"
    odd = f"if [ -e {quote(path)} ] && [ ! -f {quote(path)} ]; then {said}; fi\n"
    plain = f"exec {join(words)}"
    if run_as is None:
        return script(odd + plain)
    test = f"if [ -r {quote(path)} ] || [ ! -e {quote(path)} ]; then"
    return script(f"{odd}{test}\n{plain}\nelse\nexec {join(as_user(run_as, words))}\nfi")
