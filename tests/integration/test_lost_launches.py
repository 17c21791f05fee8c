"""The answer to a launch is lost, in a run that had launched the same command before: what came of it is asked of the host."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.shop import Shop, finish, shop
from tests.integration.sshd import wait_for

# The session of the next launch dies before its command ran (lost), or after it, with its answer (unheard).
DOOR = """
case $SSH_ORIGINAL_COMMAND in
*jboss.start*setsid*)
  if [ -e ~/lost ]; then rm ~/lost; kill -9 $PPID; exit; fi
  if [ -e ~/unheard ]; then rm ~/unheard; /bin/sh -c "$SSH_ORIGINAL_COMMAND" > /dev/null 2>&1; kill -9 $PPID; exit; fi
esac
exec /bin/sh -c "$SSH_ORIGINAL_COMMAND"
"""
PLAYBOOK = """
name: again
about: A restart whose start is tried twice.
targets: all
steps:
  - drain
  - settle
  - stop
  - start:
    retries: 1
  - started
  - health
  - undrain
"""


@pytest.fixture
def failed(tmp_path: Path) -> Iterator[tuple[Shop, str]]:
    """A shop with a run whose start command ended well, and whose service died behind that."""
    with shop(tmp_path, door=DOOR) as made:
        (tmp_path / "playbooks").mkdir()
        (tmp_path / "playbooks/again.yml").write_text(PLAYBOOK)
        made.members[0].flag("dies")
        said = made.change("playbook", "run", "again", "h1")
        assert (said.code, said.outcomes, said.steps()["start"]) == (1, {"h1": "failed"}, "ok"), said
        made.members[0].flag("dies", on=False)
        wait_for(lambda: made.members[0].pid is None, "the service to die")
        assert made.members[0].calls == ["start"]
        yield made, said.record["run"]


def test_a_launch_that_was_lost_on_its_way_is_not_taken_for_the_one_before_and_is_tried_again(
    failed: tuple[Shop, str],
) -> None:
    made, run = failed
    (made.members[0].home / "lost").touch()
    said = made.change("runs", "resume", run)
    assert (said.code, said.outcomes, said.steps()["start"]) == (0, {"h1": "restarted"}, "ok"), said
    assert not (made.members[0].home / "lost").exists(), "no launch was lost: this has shown nothing"
    assert made.members[0].calls == ["start", "start"]
    assert made.members[0].heartbeat.exists()


def test_a_launch_whose_answer_was_lost_is_waited_for_and_not_repeated(failed: tuple[Shop, str]) -> None:
    made, run = failed
    member = made.members[0]
    (member.home / "unheard").touch()
    member.flag("start-waits")
    logins = made.farm.logins()
    proc = made.popen("runs", "resume", run, "--yes", "--reason", "test", "-o", "json")
    wait_for(lambda: member.calls.count("start") == 2, "the second start")
    wait_for(lambda: made.farm.logins() > logins + 1, "bbctl to log in anew")
    assert proc.poll() is None
    member.flag("start-waits", on=False)
    said = finish(proc)
    assert (said.code, said.outcomes) == (0, {"h1": "restarted"}), said
    assert not (member.home / "unheard").exists()
    assert member.calls == ["start", "start"]
