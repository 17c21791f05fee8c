"""A stand-in for JBoss: writes a believable log, answers /health, and misbehaves as the files in its flags folder say.

    stand_in.py FOLDER ADDRESS PORT org.jboss.Main -c INSTANCE

Flags: deaf (to TERM), hang (after the HornetQ line), unhealthy, flaps (every other answer), dies (behind its first good
answer), no-dump, deadlock, undated (its log bears no dates). It ends with TERM, or when `end` appears.
"""

import http.server
import itertools
import os
import pathlib
import signal
import sys
import threading
import time

FOLDER, ADDRESS, PORT = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
LOG = FOLDER / "server.log"
asked: list[int] = []  # a handler may take no lock that the thread it cuts into holds: no Event
asks = itertools.count()


def flag(name: str) -> bool:
    return (FOLDER / "flags" / name).exists()


def write(text: str) -> None:
    with LOG.open("a") as log:
        log.write(text)


def log(text: str) -> None:
    now = time.time()
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now)) + f",{int(now % 1 * 1000):03d}"
    write(f"{'' if flag('undated') else stamp + ' '}INFO  [org.jboss] (main) {text}\n")


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        good = not flag("unhealthy") and not (flag("flaps") and next(asks) % 2)
        body = f'{{"status": "{"OK" if good else "DOWN"}", "instance": "{sys.argv[-1]}"}}'.encode()
        self.send_response(200 if good else 503)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        if good and flag("dies"):
            self.wfile.flush()
            os._exit(7)

    def log_message(self, *args: object) -> None:
        pass


def on_quit(*_: object) -> None:
    if flag("no-dump"):
        return
    text = "\nFull thread dump Java HotSpot(TM) 64-Bit Server VM (25.45-b02 mixed mode):\n\n"
    text += '"main" #1 prio=5 tid=0x1 nid=0x1 runnable\n'
    if flag("deadlock"):
        for me, mine, other in (("invoice-1", "0xaa", "0xbb"), ("invoice-2", "0xbb", "0xaa")):
            text += (
                f'"{me}" #9 prio=5 tid=0x2 nid=0x2 waiting for monitor entry [0x3]\n   java.lang.Thread.State: BLOCKED\n'
                f"\tat a.Ledger.post(Ledger.java:42)\n\t- waiting to lock <{other}> (a a.Account)\n"
                f"\t- locked <{mine}> (a a.Account)\n\n"
            )
    write(text + "JNI global references: 1337\n\n")


def main() -> None:
    signal.signal(signal.SIGTERM, lambda number, _: None if flag("deaf") else asked.append(number))
    signal.signal(signal.SIGQUIT, on_quit)
    server = http.server.ThreadingHTTPServer((ADDRESS, PORT), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    log("JBoss (Microcontainer) Started in 29s:153ms")
    while not asked and not flag("end"):
        time.sleep(0.05)
    server.server_close()
    log("Stopping HornetQ")
    while flag("hang") and not flag("end"):
        time.sleep(0.05)
    log("JBoss (Microcontainer) stopped in 2s:11ms")
    os._exit(0)


main()
