"""The init script of a lab host, as a runbook's fleet has one: start does not wait, stop does."""

from __future__ import annotations

import shlex
import sys

from bbctl.lab.ground import LabHost


def text(host: LabHost) -> str:
    """A POSIX shell script that takes start or stop."""
    return f"""\
#!/bin/sh
# something_jboss of {host.name}. Finds its process by the whole command line, never by a number alone.
HOME_DIR={shlex.quote(str(host.folder))}
MARK={shlex.quote(host.mark)}

running() {{
    pid=$(cat "$HOME_DIR/run/jboss.pid" 2>/dev/null) && [ -n "$pid" ] &&
        tr '\\0' '\\n' <"/proc/$pid/cmdline" 2>/dev/null | grep -qxF -e "$MARK"
}}

case "$1" in
start)
    if running; then echo "jboss runs already, pid $pid"; exit 0; fi
    setsid {shlex.quote(sys.executable)} -P -m bbctl.lab.jboss org.jboss.Main -c accounting -b {host.name} "$MARK" \\
        </dev/null >>"$HOME_DIR/log/console.log" 2>&1 &
    echo $! >"$HOME_DIR/run/jboss.pid"
    echo "jboss starting, pid $!"
    ;;
stop)
    if ! running; then echo "jboss does not run"; exit 0; fi
    kill -TERM "$pid"
    while running; do sleep 0.2; done
    echo "jboss stopped"
    ;;
*)
    echo "usage: something_jboss start|stop" >&2
    exit 2
    ;;
esac
"""
