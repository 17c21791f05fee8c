"""Bars, plots and words of the workflow screens; what a preview says will happen. Pure."""

from __future__ import annotations

import pytest

from bbctl.render.history import BARS, bar_of
from bbctl.render.queues import plot
from engine import wording
from engine.model import HistoryLine, Node
from engine.preview import candidates, preview
from engine.scene import Scene
from tests.states import HOUR, Builder, stored

NOW = 1_800_000_000_000


def line(at: int, server: str, client: str = "ready") -> HistoryLine:
    return HistoryLine(at=at, server=server, client=client)


def test_a_bar_shows_each_state_for_its_time() -> None:
    lines = [line(0, "ready"), line(150, "sent_to_client"), line(450, "retrying"), line(600, "complete")]
    assert bar_of(lines, True, start=0, span=600, end=600) == "·" * 15 + "█" * 30 + "r" * 15


def test_what_took_no_time_still_gets_a_column() -> None:
    bar = bar_of([line(300, "sent_to_client"), line(300, "complete")], True, start=0, span=600, end=600)
    assert bar.strip() == "█"
    assert len(bar) == BARS


def test_what_is_not_finished_runs_to_the_end() -> None:
    assert bar_of([line(300, "sent_to_client")], False, start=0, span=600, end=600) == " " * 30 + "█" * 30


def test_a_plot_never_draws_something_as_nothing() -> None:
    assert plot([0, 1, 1000]) == " ▁█"
    assert plot([0, 0]) == "▁▁"
    assert plot([]) == ""


@pytest.mark.parametrize(
    ("response", "said"),
    [
        (None, "nothing was said"),
        ('{"error":{"code":1,"message":"Bank timeout"}}', "Bank timeout"),
        ('{"error":"no funds"}', "no funds"),
        ('"plain\\ntext"', "plain text"),
        ('{"odd":1}', '{"odd": 1}'),
        ("not json", "not json"),
    ],
)
def test_a_response_is_said_in_one_line(response: str | None, said: str) -> None:
    assert wording.said(response) == said


def test_names_are_listed_as_people_do() -> None:
    nodes = [Node(name=f"n{i}") for i in range(5)]
    assert [wording.listed(nodes[:k]) for k in (1, 2, 3, 5)] == [
        "n0",
        "n0 and n1",
        "n0, n1 and n2",
        "n0, n1, n2 and 2 more",
    ]


# -- previews ----------------------------------------------------------------------------------------------------------


def scene_of(b: Builder) -> Scene:
    return Scene(now=NOW, nodes=stored(b.of(b.root)))


def test_a_retry_says_what_is_below_goes_and_the_node_runs_again() -> None:
    b = Builder(NOW)
    node = b.node("sent_to_client/processing", gen="g", attempt=2)
    child = b.node("pending/pending", under=node)
    found = preview(scene_of(b), node, "retry")
    assert [n.id for n in found.runs_again] == [node.id]
    assert [n.id for n in found.deactivated] == [child.id]
    assert "attempt 3" in found.says


def test_resolving_names_what_goes_on_up_to_the_next_that_blocks() -> None:
    b = Builder(NOW)
    node = b.node("retries_exhausted/errored")
    side, after, later = b.node("ready/ready", mode="non_blocking"), b.node("ready/ready"), b.node("ready/ready")
    found = preview(scene_of(b), node, "resolve")
    assert [n.id for n in found.goes_on] == [side.id, after.id]
    assert later.id not in [n.id for n in found.goes_on]
    assert found.refusal is None


def test_shutting_down_takes_what_follows_with_all_below_it() -> None:
    b = Builder(NOW)
    before = b.node("complete/complete")
    node = b.node("retries_exhausted/errored")
    after = b.node("ready/ready", gen="g")
    below = b.node("pending/pending", under=after)
    gone = [n.id for n in preview(scene_of(b), node, "shutdown").deactivated]
    assert set(gone) == {after.id, below.id}
    assert before.id not in gone


def test_a_timeout_without_retries_left_says_that_a_person_is_told() -> None:
    b = Builder(NOW)
    node = b.node("sent_to_client/received", retries=[1, 0])
    found = preview(scene_of(b), node, "timeout")
    assert found.runs_again == ()
    assert "a person is told" in found.says


@pytest.mark.parametrize("verb", ["timeout", "resolve", "shutdown"])
def test_a_node_that_waits_for_its_retry_is_refused_and_names_retry(verb: str) -> None:
    b = Builder(NOW)
    node = b.node("retrying/errored", fires_at=NOW + HOUR)
    found = preview(scene_of(b), node, verb)
    assert found.refusal
    assert found.next == f"bbctl wf retry {node.tail}"
    assert candidates(scene_of(b), b.root, verb) == [scene_of(b).nodes[node.id]]
