"""What is kept of a process before it is killed: the end of its log, how it stands, its threads. Texts for the host."""

from __future__ import annotations

from bbctl.model import Proc
from bbctl.remote import process
from bbctl.remote.logs import reader
from bbctl.remote.shell import as_user, join, quote

_LOG = r"""
f={path}
{become}
[ -f "$f" ] || [ ! -e "$f" ] || {{ echo "$f is no regular file" >&2; exit 1; }}
[ -e "$f" ] || {{ echo "there is no $f" >&2; exit 1; }}
as tail -n {lines} -- "$f" | tail -c {most}
"""
_STAND = r"""
pid={pid}
show() { printf '\n== %s\n' "$*"; timeout 5 "$@" 2>&1 | head -n 400; }
show date
show uptime
show ps -o pid,ppid,user,state,lstart,etime,time,pcpu,pmem,rss,nlwp,wchan:20,args -ww -p "$pid"
show ps -L -o lwp,state,pcpu,time,wchan:24,comm --sort=-pcpu -p "$pid"
for one in status limits io wchan; do show cat "/proc/$pid/$one"; done
show ls -l "/proc/$pid/fd"
for one in tcp tcp6; do show cat "/proc/$pid/net/$one"; done
show cat /proc/meminfo
show df -P -k
show ps -e -o pid,ppid,user,state,etime,pcpu,rss,args --sort=-pcpu
"""
# The tools of the very Java that runs it, else what the path has. Attaching sends a QUIT of its own: only to the proven one.
_JSTACK = r"""
exe=$(readlink -f "/proc/{pid}/exe"); home=${{exe%/*}}
for tool in "$home/jstack" "$home/../bin/jstack" "$home/../../bin/jstack" "$(command -v jstack)"; do
  [ -x "$tool" ] || continue
  timeout {seconds} "$tool" -l {pid} && exit 0
done
for tool in "$home/jcmd" "$home/../bin/jcmd" "$home/../../bin/jcmd" "$(command -v jcmd)"; do
  [ -x "$tool" ] || continue
  timeout {seconds} "$tool" {pid} Thread.print -l && exit 0
done
echo 'neither jstack nor jcmd gave a dump' >&2
exit 1
"""


def log(path: str, *, run_as: str | None, lines: int, most: int) -> str:
    """Shell text for the last `lines` lines of a log, `most` bytes of them at most."""
    return _LOG.format(path=quote(path), become=reader(run_as), lines=lines, most=most)


def stand(proc: Proc) -> str:
    """Shell text that describes a process and its machine: threads, limits, files, sockets, memory, disks."""
    return _STAND.replace("{pid}", str(proc.pid))


def jstack(proc: Proc, *, become: str | None, seconds: float) -> str:
    """Shell text for a thread dump by the tools of the process's own Java, as the user it runs as."""
    text = _JSTACK.format(pid=proc.pid, seconds=max(1, round(seconds)))
    return process.if_heard(proc, process.only(proc, join(as_user(become, ("/bin/sh", "-c", text)))))
