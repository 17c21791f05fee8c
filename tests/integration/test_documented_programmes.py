"""The Python of the README and of docs/embedded.md runs as it stands there, and so do the commands beside it."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.integration.servers import Mongo, Redis, tidy_environment, wait_for

ROOT = Path(__file__).resolve().parents[2]
BBCTL = str(Path(sys.executable).with_name("bbctl"))


def blocks(page: str, language: str) -> list[str]:
    return re.findall(
        rf"^```{language}\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )


@pytest.fixture
def environ(tmp_path: Path) -> Iterator[dict[str, str]]:
    mongo, redis = Mongo.start(), Redis.start()
    named = {"BBCTL_MONGO_URL": mongo.url(), "BBCTL_REDIS_URL": redis.url(), "BBCTL_HOME": str(tmp_path / "home")}
    yield {**tidy_environment(), **named, "BBCTL_INVENTORY": "none"}
    redis.stop()
    mongo.stop()


@contextmanager
def workers(module: str, folder: Path, environ: dict[str, str]) -> Iterator[None]:
    with (folder / "work.log").open("wb") as log:
        process = subprocess.Popen(
            [BBCTL, "work", "--processes", "1", "--import", module], cwd=folder, env=environ, stdout=log, stderr=log
        )
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


def bbctl(line: str, folder: Path, environ: dict[str, str]) -> str:
    words = [BBCTL, *shlex.split(line, comments=True)[1:]]
    done = subprocess.run(words, cwd=folder, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{line}: {done.stdout}{done.stderr}"
    return done.stdout


def statuses(folder: Path, environ: dict[str, str]) -> dict[str, str]:
    """{name: server status} of every node of invoice 4711."""
    found: dict[str, str] = {}

    def walk(node: dict[str, Any]) -> None:
        found[node["name"]] = node["currentServerStatus"]
        for child in node["children"]:
            walk(child)

    walk(json.loads(bbctl("bbctl wf show invoice=4711 -o json", folder, environ))["tree"])
    return found


def complete(names: set[str], folder: Path, environ: dict[str, str]) -> bool:
    found = statuses(folder, environ)
    return names <= set(found) and all(found[name] == "complete" for name in names)


def test_the_ten_lines_of_the_readme_run_with_the_commands_below_them(tmp_path: Path, environ: dict[str, str]) -> None:
    (code,) = blocks("README.md", "python")
    (tmp_path / "invoicing.py").write_text(code)
    (lines,) = [block.splitlines() for block in blocks("README.md", "sh") if "--import" in block]
    assert lines[0].startswith("bbctl work --import invoicing &")
    with workers("invoicing", tmp_path, environ):
        for line in lines[1:]:
            bbctl(line, tmp_path, environ)
        wait_for("the invoice", lambda: complete({"invoice", "charge", "mail"}, tmp_path, environ), every=0.5)
    assert (tmp_path / "work.log").read_text().count("charged 4711") == 1


def test_the_page_about_embedding_runs_from_top_to_bottom(tmp_path: Path, environ: dict[str, str]) -> None:
    code = blocks("docs/embedded.md", "python")
    handlers = [block for block in code if "@activity" in block]
    (tmp_path / "invoicing.py").write_text("\n".join(handlers))
    urls = "import os\nMONGO_URL, REDIS_URL = os.environ['BBCTL_MONGO_URL'], os.environ['BBCTL_REDIS_URL']\n"
    (tmp_path / "play.py").write_text(urls + "\n".join(code))
    done = subprocess.run(
        [sys.executable, "play.py"], cwd=tmp_path, env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (line,) = [text for block in blocks("docs/embedded.md", "sh") for text in block.splitlines() if "wf start" in text]
    with workers("invoicing", tmp_path, environ):
        bbctl(line, tmp_path, environ)  # the same workflow, one more signal
        names = {"invoice", "charge", "archive", "mail"}
        wait_for("the invoice", lambda: complete(names, tmp_path, environ), every=0.5)
