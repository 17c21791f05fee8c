"""The queue on the screen: how deep, how late, who works, what waits for its time, what is done every so often."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.text import Text

from bbctl.render.screen import BAD, BUSY, DIM, GOOD, age, clock, draw, out, safe, table

if TYPE_CHECKING:
    from engine.model import Stats, WorkerRecord
    from engine.periodic import Tick

Sample = Sequence[float]  # ms, depth, latency in seconds

STEPS = " ▁▂▃▄▅▆▇█"
COLUMNS = 60
SLOW, BAD_LATENCY = 10.0, 60.0  # seconds the oldest due node may wait
FLUSH_SHOWN = 86_400_000  # ms a flush is worth a line


def queues(stats: Stats, ticks: Sequence[Tick], samples: Sequence[Sample], now: int) -> None:
    """Everything on one screen, the verdict first."""
    draw(_verdict(stats), "", *_plots(samples, stats), "")
    draw(*_figures(stats), "")
    draw(*_workers(stats.workers, now), "")
    draw(_periodic(ticks, now))
    for line in _flushes(ticks, now):
        draw(line)


def watched(stats: Stats, ticks: Sequence[Tick], samples: Sequence[Sample], now: int) -> None:
    """The same, in place of the last one on a terminal."""
    if sys.stdout.isatty():
        out("\x1b[H\x1b[2J", end="")
    queues(stats, ticks, samples, now)


def healthy(stats: Stats) -> bool:
    """Does due work get done? Redis gone only makes it slower."""
    return stats.latency <= SLOW or (bool(stats.workers) and stats.latency <= BAD_LATENCY)


def _verdict(stats: Stats) -> Text:
    if not stats.workers:
        word, style = ("NOBODY WORKS", BAD) if stats.depth else ("IDLE, no worker", BUSY)
        return Text(f"{word} · {stats.depth} due · next  bbctl work", style=style)
    slow = stats.latency > SLOW
    line = Text(
        "BEHIND" if slow else "OK", style=f"bold {BAD if stats.latency > BAD_LATENCY else BUSY if slow else GOOD}"
    )
    line.append(
        f"  {stats.depth} due, the oldest for {age(stats.latency)} · {len(stats.workers)} workers", style="default"
    )
    line.append("" if stats.redis else " · REDIS DOWN: everything goes on, slower", style=BUSY)
    return line


def plot(values: Sequence[float]) -> str:
    """The last values, each a column, the largest full height; a value above nothing is never drawn as nothing."""
    shown = list(values)[-COLUMNS:]
    top = max(shown, default=0)
    if top <= 0:
        return STEPS[1] * len(shown)
    return "".join(STEPS[max(1, round(value / top * (len(STEPS) - 1)))] if value > 0 else STEPS[0] for value in shown)


def _plots(samples: Sequence[Sample], stats: Stats) -> list[Text]:
    depths = [*(s[1] for s in samples), stats.depth]
    latencies = [*(s[2] for s in samples), stats.latency]
    since = f"  since {clock(samples[-COLUMNS:][0][0] / 1000)}" if samples else ""
    rows = (
        ("depth", depths, f"max {max(depths[-COLUMNS:]):g}{since}"),
        ("latency", latencies, f"max {age(max(latencies[-COLUMNS:]))}"),
    )
    return [
        Text(f"{name:<9}") + Text(plot(values), style=BUSY) + Text(f"  {about}", style=DIM)
        for name, values, about in rows
    ]


def _figures(stats: Stats) -> list[Text]:
    following = f", next {clock(stats.next_timer / 1000)}" if stats.next_timer else ""
    late = f", {stats.late} late" if stats.late else ""
    return [
        Text(f"timers   {stats.scheduled} waiting{late}{following} · {stats.retrying} wait to be retried"),
        Text(
            f"today    {stats.processed_today} processed, {stats.failed_today} failed · ever {stats.processed}, {stats.failed}"
        ),
    ]


def _workers(workers: Sequence[WorkerRecord], now: int) -> list[Any]:
    if not workers:
        return [Text("workers  none", style=BAD)]
    rows = table("worker", "up", "seen", "holds", "processed", "failed", "")
    for w in workers:
        note = "" if w.redis else "without Redis"
        up, seen = age((now - w.started) / 1000), f"{age((now - w.seen) / 1000)} ago"
        rows.add_row(f"{safe(w.host)} {w.pid}", up, seen, str(w.held), str(w.processed), str(w.failed), note)
    return [rows]


def _periodic(ticks: Sequence[Tick], now: int) -> Any:
    rows = table("periodic job", "last", "next", "where", "")
    for t in ticks:
        last = "never" if t.last is None else f"{age((now - t.last) / 1000)} ago"
        late = t.next is not None and t.next < now - 60_000
        next = "now" if t.next is None or t.next <= now else f"in {age((t.next - now) / 1000)}"
        rows.add_row(
            t.name,
            last,
            Text("overdue" if late else next, style=BAD if late else ""),
            safe(t.where or "–"),
            safe(t.result or t.about),
        )
    return rows


def _flushes(ticks: Sequence[Tick], now: int) -> list[Text]:
    kept: Mapping[str, Any] = next((t.kept for t in ticks if t.name == "flush-check"), {})
    recent = [f for f in kept.get("flushes", []) if now - f["at"] < FLUSH_SHOWN]
    return [
        Text(
            f"FLUSHED {clock(f['at'] / 1000)}: {f['hinted']} due nodes hinted again from MongoDB; nothing lost",
            style=BUSY,
        )
        for f in recent
    ]
