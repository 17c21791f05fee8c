"""The memory of a log while a service stops or starts: rotation, cuts, lines without a date, a host that says nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from bbctl.model import Hang, Host, Process, Ran, Service, Ssh
from bbctl.run.watch import Glance, Watch

HOST = Host(name="w1", address="w1", ssh=Ssh(user="jboss"))
SERVICE = Service(
    name="jboss", process=Process(match="org.jboss.Main", user="jboss"), log="/log", started="Started in",
    stopped="JBoss .*stopped", hang=Hang(after="stopp?ing hornetq", within=3.0), stop_timeout=60.0,
)  # fmt: skip
NOW, BOOT = 1_000_000.0, 1000.0


@dataclass
class Fake:
    """A host that answers glances: one process (or none) and a log file. It reads the offset asked for out of the text."""

    content: bytes = b""
    inode: int = 1
    pid: int | None = 18244
    age: float = 500.0
    now: float = NOW
    touched: float = NOW
    silent: bool = False
    leap: float = 0.0  # of its clock
    asked: list[int] = field(default_factory=list)

    def __call__(self, text: str, timeout: float) -> Ran:
        if self.silent:
            return Ran(host="w1", status="failed", error="connection lost")
        plain = text.replace("'\"'\"'", "'")
        marker = re.search(r"printf '[^']*' ([0-9a-f]{16})", plain)
        start = re.search(r"size=\$\{place%% \*\} from=(\d+)", plain)
        assert marker
        assert start
        self.asked.append(int(start[1]))
        parts = {"procs": self.procs(), "log": self.log(int(start[1])), "zone": b"+0000"}
        out = b"".join(b"\n%s %s\n%s" % (marker[1].encode(), k.encode(), v) for k, v in parts.items())
        return Ran(host="w1", status="ok", exit=0, stdout=out + b"\n%s .\n" % marker[1].encode())

    def procs(self) -> bytes:
        head = f"me 99\nboot b\nup {BOOT + self.now - NOW}\nnow {int((self.now + self.leap) * 1e9)}\nuser 7 jboss\n"
        if self.pid is None:
            return f"{head}p 1 0 0\n.\n".encode()
        ticks = int((BOOT + self.now - NOW - self.age) * 100)
        stat = f"{self.pid} (java) S 1 " + "0 " * 17 + f"{ticks} 0"
        return (
            f"{head}p 1 0 0\np {self.pid} 1 7\n.\n==> /proc/{self.pid}/stat <==\n{stat}\n"
            f"\n==> /proc/{self.pid}/cmdline <==\njava\0org.jboss.Main"
        ).encode()

    def log(self, start: int) -> bytes:
        start = start if start <= len(self.content) else 0
        return f"log {start} {len(self.content)} {self.inode} 5 {int(self.touched)}\n".encode() + self.content[start:]


def watch(fake: Fake) -> Watch:
    return Watch(HOST, SERVICE, fake, launches={})


def look(eyes: Watch, fake: Fake, text: str = "", later: float = 1.0) -> Glance:
    fake.content += text.encode()
    fake.now += later
    fake.age += later
    fake.touched = fake.now if text else fake.touched
    return eyes.glance()


def test_a_line_without_a_date_counts_from_the_moment_that_we_look() -> None:
    fake = Fake(b"Stopping HornetQ\n")
    eyes = watch(fake)
    assert eyes.glance().process == "running", "an old line proves nothing"
    assert look(eyes, fake, "Stopping HornetQ\n").verdict.word == "stopping"
    assert look(eyes, fake, later=4.0).process == "hung"


def test_a_leap_of_the_hosts_clock_is_no_silence() -> None:
    fake = Fake(b"")
    eyes = watch(fake)
    eyes.glance()
    assert look(eyes, fake, "Stopping HornetQ\n").process == "running"
    fake.leap = 3600.0
    assert look(eyes, fake).process == "running", "an hour by its clock, a second in truth"
    assert look(eyes, fake, later=4.0).process == "hung"


def test_only_what_is_new_is_asked_for_again() -> None:
    fake = Fake(b"x\n" * 500)
    eyes = watch(fake)
    eyes.glance()
    look(eyes, fake, "half a li")
    assert look(eyes, fake, "ne: Started in 3s\n").verdict.word == "started"
    assert fake.asked[1:] == [999, 999]


def test_a_log_that_was_renamed_is_read_from_its_beginning() -> None:
    fake = Fake(b"y\n" * 50)
    eyes = watch(fake)
    eyes.glance()
    fake.content, fake.inode = b"Started in 29s\n" + b"z\n" * 500, 2
    seen = [look(eyes, fake).verdict.word for _ in range(2)]
    assert seen[-1] == "started"


def test_a_log_that_was_cut_is_read_from_its_beginning() -> None:
    fake = Fake(b"y\n" * 50)
    eyes = watch(fake)
    eyes.glance()
    fake.content = b"Started in 29s\n"
    assert look(eyes, fake).verdict.word == "started"


def test_a_log_that_is_not_there_yet_is_waited_for() -> None:
    fake = Fake(b"Started in 1s\n")
    eyes = watch(fake)
    whole = fake.log
    fake.log = lambda start: b"log missing\n"  # type: ignore[method-assign]
    assert eyes.glance().verdict.word is None
    fake.log = whole  # type: ignore[method-assign]
    assert look(eyes, fake).verdict.word == "started"


def test_what_was_written_before_a_start_proves_nothing_after_it() -> None:
    fake = Fake()
    eyes = watch(fake)
    eyes.glance()
    look(eyes, fake, "Started in 29s\n")
    eyes.begin_here()
    assert look(eyes, fake).verdict.word is None
    assert look(eyes, fake, "Started in 30s\n").verdict.word == "started"


def test_an_earlier_life_of_the_run_says_where_its_own_lines_began() -> None:
    fake = Fake(b"old\nStarted in 29s\n")
    first = watch(Fake(b"old\n"))
    first.glance()
    assert Watch(HOST, SERVICE, fake, launches={}, since=first.place).glance().verdict.word == "started"
    assert Watch(HOST, SERVICE, fake, launches={}).glance().verdict.word is None


def test_however_much_came_since_an_earlier_life_of_the_run_all_of_it_is_looked_at() -> None:
    first = watch(Fake(b"old\nhalf"))
    first.glance()
    much = b"x" * 99 + b"\n"
    fake = Fake(b"old\nhalf a line\nStarted in 29s\n" + much * 3000)
    eyes = Watch(HOST, SERVICE, fake, launches={}, since=first.place)
    assert eyes.glance().verdict.word == "started"
    fake = Fake(b"Started in 1s\n" + much * 3000)
    eyes = Watch(HOST, SERVICE, fake, launches={}, since={"file": "5:1", "at": len(fake.content)})
    assert eyes.glance().verdict.word is None, "it stands before the place"


def test_an_earlier_life_s_place_in_a_log_that_was_cut_or_renamed_hides_nothing_of_the_new_one() -> None:
    much = b"x" * 99 + b"\n"
    for fake in (Fake(b"Started in 1s\n" + much * 2000), Fake(b"Started in 1s\n" + much * 3000, inode=2)):
        eyes = Watch(HOST, SERVICE, fake, launches={}, since={"file": "5:1", "at": 250_000})
        assert [eyes.glance().verdict.word for _ in range(2)][-1] == "started"


def test_a_host_that_says_nothing_is_unknown_and_never_stopped() -> None:
    fake = Fake(silent=True)
    seen = watch(fake).glance()
    assert (seen.process, seen.proc, seen.error) == ("unknown", None, "connection lost")


def test_no_process_is_stopped() -> None:
    assert watch(Fake(pid=None)).glance().process == "stopped"
