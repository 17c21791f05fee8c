"""Pages: to PagerDuty (Events API v2) and a webhook; what cannot be sent is spooled and sent later, never lost.

A page's key is finding and target, so one trouble stays one incident from `trigger` to `resolve`. The shape of an event is
PagerDuty's: https://developer.pagerduty.com/docs/events-api-v2-overview (routing_key, event_action, dedup_key, payload).
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import urllib3

from bbctl.errors import ConfigError

PAGERDUTY = "https://events.pagerduty.com/v2/enqueue"
SEVERITY = {
    1: "critical",
    2: "critical",
    3: "error",
    4: "warning",
    5: "info",
}  # the runbook's legend in PagerDuty's words
CONNECT, TOTAL = 3.0, 10.0  # seconds: a pager that is down must not hold a sweep
KEEP = 500  # pages in the spool; the oldest go first


@dataclass(frozen=True, kw_only=True)
class Page:
    """`text` is the whole page, made to be read on a telephone; its first line is the title. `severity` 1 to 5."""

    key: str
    action: Literal["trigger", "resolve"]
    severity: int
    target: str
    text: str
    links: Mapping[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return self.text.split("\n", 1)[0]


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """What became of a page at one place: `sent`, or `spooled` with the reason."""

    where: str
    outcome: Literal["sent", "spooled"]
    detail: str


def send(page: Page, *, alerts: Mapping[str, Any], spool: Path, now: float) -> list[Receipt]:
    """Send to every place the inventory names. When all were asked it raises ConfigError for a key file that cannot be read,
    OSError where a page could neither be sent nor kept; nothing else."""
    receipts, lost = [], None
    for where in sorted(set(alerts) & {"pagerduty", "webhook"}):
        try:
            failed = _post(where, alerts[where], page)
            if failed:
                _spool(spool, where, page, now)
        except (ConfigError, OSError) as error:
            lost = lost or error
            continue
        receipts.append(Receipt(where=where, outcome="spooled" if failed else "sent", detail=failed or "accepted"))
    if lost is not None:
        raise lost
    return receipts


def send_spooled(*, alerts: Mapping[str, Any], spool: Path) -> list[Receipt]:
    """Try again what could not be sent, oldest first; a place that fails again is left for the next time."""
    receipts: list[Receipt] = []
    down: set[str] = set()
    for path in sorted(spool.glob("*.json")) if spool.is_dir() else []:
        try:
            said = json.loads(path.read_bytes())
            where, page = str(said["where"]), Page(**said["page"])
        except (OSError, ValueError, TypeError, KeyError):
            path.rename(path.with_suffix(".unreadable"))
            continue
        if where in down or where not in alerts:
            continue
        if failed := _post(where, alerts[where], page):
            down.add(where)
            receipts.append(Receipt(where=where, outcome="spooled", detail=failed))
        else:
            path.unlink()
            receipts.append(Receipt(where=where, outcome="sent", detail=f"{page.key}, late"))
    return receipts


def _post(where: str, said: Mapping[str, Any], page: Page) -> str | None:
    """None when the place took the page, else why not."""
    url, body = (
        _pagerduty(said, page) if where == "pagerduty" else (str(said["url"]), {**asdict(page), "title": page.title})
    )
    try:
        with urllib3.PoolManager(retries=False) as pool:
            answer = pool.request(
                "POST", url, json=body, redirect=False, timeout=urllib3.Timeout(connect=CONNECT, total=TOTAL)
            )
        return None if 200 <= answer.status < 300 else f"HTTP {answer.status}"
    except urllib3.exceptions.HTTPError as error:
        return type(error).__name__  # its text may hold the URL, and the URL a secret


def _pagerduty(said: Mapping[str, Any], page: Page) -> tuple[str, dict[str, Any]]:
    body: dict[str, Any] = {"routing_key": _routing_key(said), "event_action": page.action, "dedup_key": page.key}
    if page.action == "trigger":
        body["payload"] = {
            "summary": page.title[:1024], "source": page.target, "severity": SEVERITY[page.severity],
            "custom_details": {"page": page.text},
        }  # fmt: skip
        body["links"] = [{"href": href, "text": name} for name, href in page.links.items()]
    return str(said.get("url") or PAGERDUTY), body


def _routing_key(said: Mapping[str, Any]) -> str:
    path = said.get("routing_key_file")
    try:
        return Path(str(path)).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigError(
            f"alerts.pagerduty.routing_key_file {path}: {error.strerror}", next="bbctl alert test"
        ) from None


def _spool(spool: Path, where: str, page: Page, now: float) -> None:
    spool.mkdir(mode=0o700, parents=True, exist_ok=True)
    name = f"{now:017.3f}-{time.monotonic_ns()}-{where}"
    new = spool / f"{name}.new"
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "w") as file:
        json.dump({"where": where, "page": asdict(page)}, file)
        file.flush()
        os.fsync(file.fileno())
    new.rename(spool / f"{name}.json")
    for old in sorted(spool.glob("*.json"))[:-KEEP]:
        old.unlink(missing_ok=True)
