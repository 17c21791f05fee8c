"""A file system that takes every request and answers none, as a dead disk or file server does: whoever reads there sleeps
uninterruptibly, and KILL does not end it. Needs root and /dev/fuse. Nobody but the process made here sees the mount.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import select
import signal
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

INIT = 26
ANSWER = struct.pack("<IIIIHHI", 7, 31, 65536, 0, 12, 9, 65536) + bytes(40)  # what the kernel is told at its INIT
MISSING = None if os.geteuid() == 0 and Path("/dev/fuse").exists() else "needs root and /dev/fuse"


@dataclass
class DeadDisk:
    device: int
    server: subprocess.Popen[bytes]

    def run(self, thread: str, script: Path, *words: str, log: Path) -> subprocess.Popen[bytes]:
        """A Python script as a process that reads from the disk when USR1 tells it to, in its `first` thread or in
        `another`."""
        argv = ["unshare", "--mount", sys.executable, __file__, str(self.device), thread, str(script), *words]
        with log.open("ab") as out:
            return subprocess.Popen(argv, pass_fds=[self.device], stdout=out, stderr=out, start_new_session=True)

    def asked(self) -> None:
        """Waits until somebody reads from it."""
        assert self.server.stdout is not None
        assert self.server.stdout.readline() == b"asked\n"

    def answers(self) -> None:
        """The disk is given up: whoever waits for it gets an error and goes on."""
        self.server.kill()
        self.server.wait()
        if self.device >= 0:
            os.close(self.device)
        self.device = -1


@contextmanager
def dead_disk() -> Iterator[DeadDisk]:
    device = os.open("/dev/fuse", os.O_RDWR)
    # It ends with this process, and with it every sleep on the disk.
    server = subprocess.Popen(
        [sys.executable, __file__, str(device)], pass_fds=[device], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    made = DeadDisk(device, server)
    try:
        yield made
    finally:
        made.answers()
        for pipe in (server.stdin, server.stdout):
            assert pipe is not None
            pipe.close()


def serve(device: int) -> None:
    ready = select.poll()
    ready.register(device, select.POLLIN)
    ready.register(0, select.POLLHUP)
    while True:
        events = dict(ready.poll(50))
        if 0 in events:
            return
        if events.get(device) == select.POLLIN:
            _, code, number = struct.unpack_from("<IIQ", os.read(device, 1 << 17))
            if code == INIT:
                os.write(device, struct.pack("<IiQ", 16 + len(ANSWER), 0, number) + ANSWER)
            else:
                print("asked", flush=True)


def live(device: int, thread: str, script: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    place = tempfile.mkdtemp()
    told = f"fd={device},rootmode=40000,user_id=0,group_id=0".encode()
    if libc.mount(b"dead", place.encode(), b"fuse", 6, told):  # 6: neither set-user-id nor devices
        raise OSError(ctypes.get_errno(), "mount")
    os.close(device)

    def read() -> None:
        try:
            os.open(f"{place}/ledger", os.O_RDONLY)
        except OSError:
            os._exit(1)

    wish = threading.Event()
    if thread == "first":
        signal.signal(signal.SIGUSR1, lambda *_: read())
    else:
        signal.signal(signal.SIGUSR1, lambda *_: wish.set())
        threading.Thread(target=lambda: (wish.wait(), read())).start()
    sys.argv[:] = sys.argv[3:]
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    serve(int(sys.argv[1])) if len(sys.argv) == 2 else live(int(sys.argv[1]), sys.argv[2], sys.argv[3])
