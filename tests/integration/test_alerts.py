"""Pages reach a real HTTP server; what cannot be sent is kept and sent later."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bbctl import alerts, silences
from bbctl.errors import ConfigError, UsageError


class Pager:
    """A pager's HTTP door. `status` is what it answers."""

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        self.status = 202
        pager = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                pager.got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(pager.status)
                self.send_header("Location", "http://127.0.0.1:9/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/enqueue"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def pager() -> Iterator[Pager]:
    made = Pager()
    yield made
    made.server.shutdown()
    made.server.server_close()


def page(action: Any = "trigger", key: str = "hung-stop/w2") -> alerts.Page:
    return alerts.Page(
        key=key, action=action, severity=3, target="w2", text="[3] w2: jboss hangs while stopping\nproof   log"
    )


def places(pager: Pager, tmp_path: Path) -> dict[str, Any]:
    key = tmp_path / "key"
    key.write_text("R0UTE\n")
    return {"pagerduty": {"routing_key_file": str(key), "url": pager.url}}


def test_a_page_carries_its_key_title_and_text_to_pagerduty(pager: Pager, tmp_path: Path) -> None:
    receipts = alerts.send(page(), alerts=places(pager, tmp_path), spool=tmp_path / "spool", now=1.0)
    assert [(r.where, r.outcome) for r in receipts] == [("pagerduty", "sent")]
    (got,) = pager.got
    assert got["routing_key"] == "R0UTE"
    assert (got["event_action"], got["dedup_key"]) == ("trigger", "hung-stop/w2")
    assert got["payload"]["summary"] == "[3] w2: jboss hangs while stopping"
    assert got["payload"]["severity"] == "error"


@pytest.mark.parametrize("status", [500, 302])
def test_a_page_that_is_not_taken_is_kept_and_sent_with_the_next_sweep(
    pager: Pager, tmp_path: Path, status: int
) -> None:
    pager.status = status
    spool = tmp_path / "spool"
    receipts = alerts.send(page(), alerts=places(pager, tmp_path), spool=spool, now=1.0)
    assert [(r.outcome, r.detail) for r in receipts] == [("spooled", f"HTTP {status}")]
    pager.status = 202
    again = alerts.send_spooled(alerts=places(pager, tmp_path), spool=spool)
    assert [r.outcome for r in again] == ["sent"]
    assert len(pager.got) == 2
    assert pager.got[0] == pager.got[1]
    assert not list(spool.iterdir())


def test_a_pager_that_is_down_is_asked_once_a_sweep_and_nothing_is_lost(tmp_path: Path) -> None:
    nowhere = {"webhook": {"url": "http://127.0.0.1:9/secret-path"}}
    for n in range(3):
        receipts = alerts.send(page(key=f"k{n}"), alerts=nowhere, spool=tmp_path / "spool", now=float(n))
        assert receipts[0].outcome == "spooled"
        assert "secret-path" not in receipts[0].detail
    again = alerts.send_spooled(alerts=nowhere, spool=tmp_path / "spool")
    assert [r.outcome for r in again] == ["spooled"]
    assert len(list((tmp_path / "spool").glob("*.json"))) == 3


def test_a_place_that_cannot_be_written_to_keeps_no_page_from_another(pager: Pager, tmp_path: Path) -> None:
    both = {"pagerduty": {"routing_key_file": str(tmp_path / "none")}, "webhook": {"url": pager.url}}
    with pytest.raises(ConfigError):
        alerts.send(page(), alerts=both, spool=tmp_path / "spool", now=1.0)
    assert [got["key"] for got in pager.got] == ["hung-stop/w2"]
    (tmp_path / "full").write_text("no folder")
    with pytest.raises(OSError, match="full"):
        alerts.send(page(), alerts={"webhook": {"url": "http://127.0.0.1:1/"}}, spool=tmp_path / "full", now=1.0)


def test_a_missing_key_file_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="routing_key_file"):
        alerts.send(page(), alerts={"pagerduty": {"routing_key_file": str(tmp_path / "none")}}, spool=tmp_path, now=1.0)


def test_a_silence_ends_by_itself_and_its_id_is_free_again(tmp_path: Path) -> None:
    one = silences.add(tmp_path, ("w1",), reason="disk", by="ann@ops1", now=100.0, seconds=60.0)
    assert [s.id for s in silences.active(tmp_path, 159.0)] == [one.id]
    assert silences.active(tmp_path, 160.0) == []
    two = silences.add(tmp_path, ("*",), reason="net", by="ann@ops1", now=200.0, seconds=60.0)
    assert two.covers("anything")
    assert [s.reason for s in silences.active(tmp_path, 201.0)] == ["net"]


def test_a_silence_cannot_last_for_ever(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a week"):
        silences.add(tmp_path, ("w1",), reason="x", by="me", now=0.0, seconds=8 * 86400.0)
