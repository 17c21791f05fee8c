"""The whole story: a lab, invoices on their way, a worker that hangs on stop, a rolling restart that copes, nothing lost.

The restart is the product's own command, run as a user would; its journal on disk is what the screen shows meanwhile.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from bbctl.errors import Failed
from bbctl.lab import cluster, faults
from bbctl.lab.ground import Ground, folder_of, load
from bbctl.lab.invoices import Batch
from bbctl.lab.invoicing import STEPS

SENDING = 45.0  # seconds over which the invoices are sent: most of the restart
PATIENCE = 170.0
HEAD_START = 3  # invoices on their way before the restart begins


class Stage(Protocol):
    """Where the story is shown."""

    def __enter__(self) -> Stage: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def say(self, text: str) -> None: ...
    def event(self, event: Mapping[str, Any]) -> None: ...
    def count(self, *, done: int, sent: int, total: int, errors: int | None) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Result:
    """What came of it. `effects`: steps carried out, `twice` of them more than once. `record`: the restart's own."""

    invoices: int
    done: int
    effects: int
    wanted_effects: int
    twice: int
    vip_errors: int | None
    requests: int | None
    seconds: float
    record: Mapping[str, Any]
    kept: bool
    evidence: str | None

    @property
    def hung(self) -> list[Mapping[str, Any]]:
        return [host for host in self.record.get("hosts", []) if host["hung"]]

    @property
    def good(self) -> bool:
        """Everything that the story promises."""
        whole = self.done == self.invoices and self.effects == self.wanted_effects and not self.twice
        proven = len(self.hung) == 1 and bool(self.hung[0]["killed_pid"]) and bool(self.hung[0]["evidence"])
        return whole and proven and self.vip_errors == 0 and self.record.get("outcome") == "done"


def run(home: Path, *, invoices: int, keep: bool, stage: Stage) -> Result:
    """Tell it. A lab that was up before stays up; otherwise it is taken down, unless `keep`."""
    began = time.monotonic()
    before = _is_up(home)
    try:
        with stage:
            ground = cluster.up(home, workers=None, say=stage.say)
            return _story(home, ground, invoices=invoices, kept=keep or before, began=began, stage=stage)
    finally:
        if not (keep or before):
            stage.say("taking the lab down")
            cluster.down(home)


def _story(home: Path, ground: Ground, *, invoices: int, kept: bool, began: float, stage: Stage) -> Result:
    victim = ground.hosts[min(1, ground.workers - 1)]
    start = _vip(ground)
    batch = Batch(ground, invoices, SENDING)
    stage.say(f"{invoices} invoices are sent through the VIP {ground.vip_url}")
    batch.start()
    try:
        _until(lambda: len(batch.sent) >= min(HEAD_START, invoices), began)
        stage.say(faults.break_(ground, victim.name, "hang-on-stop"))
        record = _restart(home, ground, batch, began, start, stage)
        while not batch.complete and time.monotonic() - began < PATIENCE:
            _show(ground, batch, start, stage)
            time.sleep(0.5)
        _show(ground, batch, start, stage)
    finally:
        batch.stop()
        (victim.faults / "hang-on-stop").unlink(missing_ok=True)
    now = _vip(ground)
    effects, twice = batch.effects()
    return Result(
        invoices=invoices, done=len(batch.done), effects=effects, wanted_effects=invoices * len(STEPS), twice=twice,
        vip_errors=_gone_up(start, now, "errors"), requests=_gone_up(start, now, "requests"),
        seconds=time.monotonic() - began, record=record, kept=kept, evidence=_evidence(home, record),
    )  # fmt: skip


def _restart(
    home: Path, ground: Ground, batch: Batch, began: float, start: Mapping[str, Any], stage: Stage
) -> Mapping[str, Any]:
    """`bbctl -i lab restart workers --yes`, with its journal shown as it grows. Its run record."""
    words = ["-i", "lab", "restart", "workers", "--yes", "--reason", "demo", "-o", "json"]
    stage.say("bbctl -i lab restart workers")
    known = _runs(home)
    environ = {**os.environ, "BBCTL_HOME": str(home)}
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as complaints:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "bbctl", *words], env=environ, stdin=subprocess.DEVNULL, stdout=said,
            stderr=complaints, start_new_session=True,
        )  # fmt: skip
        try:
            events = _events(home, known)
            while process.poll() is None and time.monotonic() - began < PATIENCE:
                for event in next(events):
                    stage.event(event)
                _show(ground, batch, start, stage)
                time.sleep(0.25)
            for event in next(events):
                stage.event(event)
        finally:
            _end(process)
        said.seek(0)
        complaints.seek(0)
        with contextlib.suppress(ValueError):
            record = json.loads(said.read())
            if "hosts" in record:
                return dict(record)
        raise Failed(
            f"the restart ended with {process.returncode}: {complaints.read().decode('utf-8', 'replace')[-500:].strip()}",
            next="bbctl runs list",
        )


def _end(process: subprocess.Popen[bytes]) -> None:
    """TERM: it finishes its host; KILL where that takes too long."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _events(home: Path, known: set[str]) -> Iterator[list[dict[str, Any]]]:
    """What the new run's journal has got since the last look."""
    read = 0
    while True:
        found = []
        for name in sorted(_runs(home) - known)[:1]:
            text = (home / "runs" / name / "journal.jsonl").read_bytes()[read:]
            whole = text[: text.rfind(b"\n") + 1]
            read += len(whole)
            found = [json.loads(line) for line in whole.splitlines()]
        yield found


def _runs(home: Path) -> set[str]:
    folder = home / "runs"
    return {path.parent.name for path in folder.glob("*/journal.jsonl")} if folder.exists() else set()


def _show(ground: Ground, batch: Batch, start: Mapping[str, Any], stage: Stage) -> None:
    batch.look()
    errors = _gone_up(start, _vip(ground), "errors")
    stage.count(done=len(batch.done), sent=len(batch.sent), total=batch.count, errors=errors)


def _until(true: Callable[[], bool], began: float) -> None:
    while not true():
        if time.monotonic() - began > PATIENCE:
            raise Failed("the VIP takes no invoices", next="bbctl lab status")
        time.sleep(0.05)


def _vip(ground: Ground) -> Mapping[str, Any]:
    return cluster.vip(ground) or {}


def _gone_up(start: Mapping[str, Any], now: Mapping[str, Any], key: str) -> int | None:
    """How far a counter of the VIP has gone up; None where it did not say."""
    return int(now[key]) - int(start[key]) if key in now and key in start else None


def _evidence(home: Path, record: Mapping[str, Any]) -> str | None:
    folder = home / "runs" / str(record.get("run"))
    return str(folder) if any(host["evidence"] for host in record.get("hosts", [])) else None


def _is_up(home: Path) -> bool:
    ground = load(folder_of(home))
    return ground is not None and ground.inventory.exists() and cluster.vip(ground) is not None
