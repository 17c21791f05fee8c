"""The lock's texts, run by a real shell on real files: one holder, by token; expiry by the host's clock; nothing half."""

from __future__ import annotations

import fcntl
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bbctl.model import Lock
from bbctl.remote import lock
from bbctl.remote.lock import Locked
from tests.integration.sshd import wait_for

FIELDS = {"operator": "ann@ops1", "machine": "ops1", "run": "r-1", "reason": "deploy 81", "step": "lock"}


class Place:
    """A host's lock, asked through `shell`."""

    def __init__(self, folder: Path, shell: str, expires: float = 300.0) -> None:
        self.lock = Lock(path=str(folder / "bb ctl/lock"), expires=expires)
        self.folder, self.shell = folder, shell

    def run(self, text: str) -> tuple[int, bytes]:
        done = subprocess.run([self.shell, "-c", text], stdout=subprocess.PIPE, check=False)
        return done.returncode, done.stdout

    def ask(self, text: str) -> Locked:
        return lock.understand(self.run(text)[1])

    def take(self, token: str, **more: str) -> Locked:
        return self.ask(lock.acquire(self.lock, token, fields={**FIELDS, **more}))


@pytest.fixture(params=["dash", "bash"])
def place(tmp_path: Path, request: pytest.FixtureRequest) -> Place:
    return Place(tmp_path, request.param)


def test_who_takes_it_has_it_and_everybody_else_is_told_who_why_and_at_what(place: Place) -> None:
    assert place.take("a").ours
    other = place.take("b", operator="bob@ops2")
    assert other.state == "held"
    assert other.record is not None
    assert (other.record.holder, other.record.reason, other.record.step) == ("ann@ops1", "deploy 81", "lock")


def test_of_twenty_who_want_it_at_once_one_gets_it(place: Place) -> None:
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda n: place.take(f"t{n}", run=f"r-{n}"), range(20)))
    winners = [a for a in answers if a.ours]
    assert len(winners) == 1
    losers = {a.record.run for a in answers if a.record and not a.ours}
    assert losers == {winners[0].record.run}  # type: ignore[union-attr]


def test_reading_it_makes_nothing(place: Place) -> None:
    assert place.ask(lock.read(place.lock)).state == "none"
    assert place.ask(lock.release(place.lock, "a")).state == "none"
    assert place.run(lock.guarded(place.lock, "a", "echo ran"))[0] == lock.LOST
    assert list(place.folder.iterdir()) == []


def test_a_renewal_says_which_step_is_under_way_and_that_the_host_is_out(place: Place) -> None:
    place.take("a")
    done = place.ask(lock.renew(place.lock, "a", step="kill", out=True))
    assert done.record is not None
    assert (done.record.step, done.record.out, done.record.reason) == ("kill", True, "deploy 81")
    assert place.ask(lock.renew(place.lock, "b", step="x")).state == "lost"


def test_a_renewal_puts_the_expiry_off_and_the_record_is_replaced_whole(place: Place) -> None:
    """A new file takes the old one's place: whoever reads meanwhile, without waiting for anybody, sees one of the two."""
    first, file = place.take("a").record, Path(place.lock.path)
    before = file.stat()
    renewed = place.ask(lock.renew(place.lock, "a")).record
    assert first is not None
    assert renewed is not None
    assert renewed.expires - renewed.renewed == pytest.approx(place.lock.expires)
    assert renewed.expires > first.expires
    assert file.stat().st_ino != before.st_ino


def test_a_step_that_waited_while_the_lock_went_to_another_changes_nothing(place: Place) -> None:
    place.take("a")
    ours = Path(place.lock.path).read_text()
    with open(f"{place.lock.path}.flock", "rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        text = lock.guarded(place.lock, "a", f"touch {place.folder}/changed")
        step = subprocess.Popen([place.shell, "-c", text], stdout=subprocess.PIPE)
        wait_for(lambda: waits_for_flock(step.pid), "the step to wait its turn")
        Path(place.lock.path).write_text(ours.replace(lock.digest("a"), lock.digest("b")))
    said, _ = step.communicate(timeout=30)
    assert (step.returncode, lock.understand(said).state) == (lock.LOST, "lost")
    assert not (place.folder / "changed").exists()


def waits_for_flock(pid: int) -> bool:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return any(Path(f"/proc/{child}/comm").read_text() == "flock\n" for child in children)


def test_an_expired_lock_is_taken_over_and_its_old_holder_changes_nothing_more(tmp_path: Path) -> None:
    place = Place(tmp_path, "sh", expires=0.2)
    place.take("a")
    assert wait_for(lambda: (got := place.take("b", run="r-2")).ours and got, "the expiry")
    code, said = place.run(lock.guarded(place.lock, "a", f"touch {tmp_path}/changed"))
    assert code == lock.LOST
    answer = lock.lost(code, said)
    assert answer is not None
    assert answer.record is not None
    assert answer.record.run == "r-2"
    assert not (tmp_path / "changed").exists()
    assert place.ask(lock.release(place.lock, "a")).state == "lost"


def test_a_lock_that_ran_out_is_nobodys_until_it_is_taken_anew(tmp_path: Path) -> None:
    """Whoever slept must not go on as if nobody could have counted on this host meanwhile."""
    place = Place(tmp_path, "sh", expires=0.2)
    assert place.take("a").ours
    wait_for(lambda: place.ask(lock.read(place.lock)).state == "expired", "the expiry")
    assert place.ask(lock.renew(place.lock, "a")).state == "lost"
    assert place.run(lock.guarded(place.lock, "a", f"touch {tmp_path}/changed"))[0] == lock.LOST
    assert not (tmp_path / "changed").exists()
    assert place.take("a").ours
    assert place.ask(lock.release(place.lock, "a")).state == "released"


def test_the_owner_takes_it_over_with_the_old_token_and_the_old_token_is_worth_nothing_then(place: Place) -> None:
    first = place.take("a").record
    again = place.ask(lock.acquire(place.lock, "b", fields=FIELDS, old_token="a"))
    assert again.ours
    assert again.record is not None
    assert first is not None
    assert again.record.since == first.since
    assert place.ask(lock.renew(place.lock, "a")).state == "lost"
    assert place.ask(lock.acquire(place.lock, "c", fields=FIELDS, old_token="a")).state == "held"


def test_a_guarded_body_keeps_its_output_and_exit_and_what_it_leaves_behind_does_not_hold_the_lock(
    place: Place,
) -> None:
    place.take("a")
    body = "sleep 30 </dev/null >/dev/null 2>&1 & echo $!; exit 7"
    code, said = place.run(lock.guarded(place.lock, "a", body))
    assert (code, said.strip().isdigit()) == (7, True)
    assert place.ask(lock.release(place.lock, "a")).state == "released"  # not `busy`: nobody holds the flock
    subprocess.run(["kill", said.strip()], check=False)


def test_a_lock_that_is_broken_open_must_be_the_one_that_was_shown(place: Place) -> None:
    shown = place.take("a")
    place.ask(lock.release(place.lock, "a"))
    place.take("b", run="r-2")
    assert place.ask(lock.break_open(place.lock, shown)).state == "lost"
    now = place.ask(lock.read(place.lock))
    assert place.ask(lock.break_open(place.lock, now)).state == "released"
    assert place.ask(lock.read(place.lock)).state == "none"


HASH = "a" * 64
STRANGE = ["", "garbage\n", "hash x\n", "expires soon\nhash x\n", "\0\0\0", "-n", "lock released\n"]
STRANGE += [f"expires {10**18 * 9}\nhash {HASH}\n", f"expires {'9' * 30}\nhash {HASH}\n", "x" * 3_000_000]  # half known


@pytest.mark.parametrize("content", STRANGE, ids=range(len(STRANGE)))
def test_a_record_that_cannot_be_understood_is_nobodys_and_stays_until_a_person_removes_it(
    place: Place, content: str
) -> None:
    place.take("a")
    Path(place.lock.path).write_text(content)
    shown = place.ask(lock.read(place.lock))
    assert (shown.state, place.take("b").state) == ("unreadable", "unreadable")
    assert place.run(lock.guarded(place.lock, "a", "echo ran"))[0] == lock.LOST
    Path(place.lock.path).write_text("another" + content)
    assert place.ask(lock.break_open(place.lock, shown)).state == "lost"
    Path(place.lock.path).write_text(content)
    assert place.ask(lock.break_open(place.lock, shown)).state == "released"


def test_a_lock_that_is_no_file_holds_nobody_up(place: Place) -> None:
    place.take("a")
    Path(place.lock.path).unlink()
    os.mkfifo(place.lock.path)
    shown = place.ask(lock.read(place.lock))
    assert (shown.state, place.take("b").state) == ("unreadable", "unreadable")
    assert place.ask(lock.break_open(place.lock, shown)).state == "released"


@pytest.mark.parametrize(
    "text", ["'; touch canary; '", "$(touch canary)", "`touch canary`", "a\nhash 0\nexpires 0", "é ☂ %41", "-n", "\\n"]
)
def test_what_people_write_as_a_reason_stays_a_text(place: Place, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place.folder)
    got = place.take("a", reason=text).record
    assert got is not None
    assert got.reason == text.strip()
    assert place.ask(lock.renew(place.lock, "a", step=text)).record.step == text.strip()  # type: ignore[union-attr]
    assert not (place.folder / "canary").exists()


def test_a_folder_that_cannot_be_written_to_is_said(place: Place) -> None:
    blocked = Lock(path=f"{place.folder}/file/lock")
    (place.folder / "file").write_text("")
    done = place.ask(lock.acquire(blocked, "a", fields=FIELDS))
    assert done.state == "failed"
    assert done.detail
