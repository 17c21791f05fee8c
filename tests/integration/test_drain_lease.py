"""A drain with a lease: quiet while it lasts, told by everything once it is over, and ended by one command."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.shop import Shop, shop
from tests.integration.sshd import wait_for


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with shop(tmp_path_factory.mktemp("lease")) as made:
        yield made


def status(made: Shop) -> dict[str, Any]:
    row = json.loads(made.bbctl("status", "h1", "-o", "json").out)[0]
    assert isinstance(row, dict)
    return row


def drained(made: Shop) -> dict[str, Any]:
    said = made.bbctl("sweep", "h1", "--check", "drained", "-o", "json")
    found = [c for c in json.loads(said.out)["checks"] if c["id"] == "drained"]
    assert len(found) == 1, said
    return {**found[0], "exit": said.code}


def test_a_lease_that_is_over_is_a_finding_until_somebody_undrains(one: Shop) -> None:
    assert one.change("drain", "h1", "--for", "1h").code == 0
    lasting = drained(one)
    assert (lasting["state"], lasting["exit"]) == ("ok", 0), lasting
    assert status(one)["lease"]["over"] is False

    assert one.change("drain", "h1", "--for", "500ms").outcomes == {"h1": "drained"}, "its time begins anew"
    wait_for(lambda: status(one)["lease"]["over"], "the lease to be over", 30)
    over = drained(one)
    assert (over["state"], over["exit"], over["since"], over["next"]) == (
        "warning", 1, status(one)["lease"]["until"], "bbctl undrain h1",
    ), over  # fmt: skip
    found = json.loads(one.bbctl("diagnose", "h1", "-o", "json").out)["findings"]
    assert [(f["id"], f["title"]) for f in found] == [("drained", "it is out of the VIP, and its lease is over")]
    assert "over since" in str(found[0]["evidence"])
    assert "→ bbctl undrain h1" in one.bbctl("status", "h1").out.replace("\n", " ")

    assert one.change("drain", "h1").outcomes == {"h1": "drained"}, "a drain without an end is no lease that is over"
    assert status(one)["lease"]["until"] is None
    assert one.change("drain", "h1").outcomes == {"h1": "skipped"}
    assert one.change("undrain", "h1").code == 0
    assert (status(one)["vip"], status(one)["lease"]) == ("in", None)


def test_a_host_that_somebody_took_out_by_hand_has_an_owner_once_it_is_drained(one: Shop) -> None:
    (heartbeat := one.members[0].heartbeat).unlink()
    assert status(one)["lease"] is None
    assert one.change("drain", "h1").outcomes == {"h1": "drained"}
    assert (status(one)["lease"]["reason"], heartbeat.exists()) == ("test", False)
    assert one.change("undrain", "h1").code == 0
