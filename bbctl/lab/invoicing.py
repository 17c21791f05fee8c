"""VAT invoicing as a workflow: which steps an invoice takes, and how each goes. Pure, but for the work itself.

create-invoice → calculate-vat → send-to-bank (times out once for every seventh invoice, and is tried again) → archive
(after a timer), with notify-merchant beside them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

NAME = "vat-invoice"
DECIDER = "accounting"
RATES = {"DE": 19, "FR": 20, "SE": 25, "LU": 17}
ARCHIVE_AFTER = 2.0
UNLUCKY = 7


@dataclass(frozen=True, kw_only=True)
class Step:
    name: str
    seconds: float
    mode: str = "blocking"
    after: float = 0.0


STEPS = (
    Step(name="create-invoice", seconds=0.1),
    Step(name="calculate-vat", seconds=0.05),
    Step(name="send-to-bank", seconds=0.2),
    Step(name="archive", seconds=0.05, after=ARCHIVE_AFTER),
    Step(name="notify-merchant", seconds=0.05, mode="non_blocking"),
)


def subject(number: int) -> dict[str, int]:
    return {"invoice": number}


def signal_data(number: int) -> dict[str, Any]:
    """What the invoice is about; goes along with every step."""
    country = sorted(RATES)[number % len(RATES)]
    return {"country": country, "net_cents": 1000 + 37 * number}


def decisions(data: Mapping[str, Any], now: float) -> list[dict[str, Any]]:
    """The steps of an invoice, as they are posted to the engine."""
    return [
        {
            "name": step.name, "type": "activity", "mode": step.mode, "retry": 6, "retry_interval": 1, "client_data": data,
            **({"fires_at": _stamp(now + step.after)} if step.after else {}),
        }
        for step in STEPS
    ]  # fmt: skip


def done(step: str, number: int, data: Mapping[str, Any], attempt: int) -> dict[str, Any]:
    """The outcome of a step. RuntimeError: it failed."""
    if step == "send-to-bank" and number % UNLUCKY == 0 and attempt == 1:
        raise RuntimeError("Bank timeout")
    if step == "calculate-vat":
        net = int(data["net_cents"])
        return {"vat_cents": net * RATES[str(data["country"])] // 100}
    return {"step": step, "invoice": number}


def _stamp(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
