"""A pytest plugin of `make faults` (-p tests.faults.figures): what was tried, how it ended and its figures → docs/results.md.

A test hands its figures over with pytest's own `record_property(name, value)`.
"""

from __future__ import annotations

import pytest

from bench.report import circumstances, replace

_rows: list[str] = []


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call" or (report.when == "setup" and not report.passed):
        _rows.append(row(report))


def row(report: pytest.TestReport) -> str:
    """One line of the table."""
    sentence = report.nodeid.rpartition("::")[2].removeprefix("test_").replace("_", " ").replace("|", "/")
    figures = ", ".join(f"{name} {value}" for name, value in report.user_properties)
    outcome = report.outcome
    if report.skipped and isinstance(report.longrepr, tuple):
        outcome, figures = "skipped", report.longrepr[2].removeprefix("Skipped: ")
    return f"| {sentence} | {outcome} | {report.duration:.0f} | {figures} |"


def pytest_sessionfinish(session: pytest.Session) -> None:
    if not _rows or hasattr(session.config, "workerinput"):  # the page is whole only where all reports come together
        return
    head = ["## Faults", "", "`make faults` writes this section.", "", circumstances(), ""]
    replace("faults", "\n".join([*head, "| what holds | outcome | seconds | figures |", "|---|---|---|---|", *_rows]))
