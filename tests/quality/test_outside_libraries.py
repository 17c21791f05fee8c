"""One file per outside library, and imports that only point down: read from the source, not from good intentions."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# An outside library -> the only places that may import it.
HOMES: dict[str, tuple[str, ...]] = {
    "pymongo": (
        "engine/driver.py",
        "engine/mongo.py",
        "engine/searches.py",
        "engine/records.py",
        "engine/store.py",
        "engine/storeadmin.py",
        "engine/hostruns.py",
    ),
    "bson": ("engine/mongo.py", "engine/storeadmin.py"),
    "redis": ("engine/hints.py", "engine/worker.py"),
    "rq": ("engine/hints.py", "engine/worker.py"),
    "urllib3": ("engine/client.py", "bbctl/alerts.py", "bbctl/lab/"),
    "uvicorn": ("engine/api.py", "engine/server.py"),
    "fabric": ("bbctl/ssh/lean.py", "bbctl/lab/"),
    "paramiko": ("bbctl/ssh/lean.py", "bbctl/ssh/login.py", "bbctl/ssh/session.py", "bbctl/lab/"),
    "yaml": ("bbctl/yamlfile.py",),
    "rich": ("bbctl/render/",),
    "typer": ("bbctl/cli/",),
    "ClusterShell": ("bbctl/ranges.py",),
}

# These may know the engine: the commands that run or ask it, and the lab. Host operations never do.
KNOW_THE_ENGINE = (
    "bbctl/cli/engine.py",
    "bbctl/cli/workflow.py",
    "bbctl/cli/listing.py",
    "bbctl/cli/steer.py",
    "bbctl/cli/launch.py",
    "bbctl/cli/regroup.py",
    "bbctl/cli/serve.py",
    "bbctl/cli/work.py",
    "bbctl/cli/client.py",
    "bbctl/cli/queues.py",
    "bbctl/cli/stores.py",
    "bbctl/cli/engine.py",
    "bbctl/stores/embedded.py",
    "bbctl/stores/look.py",
    "bbctl/stores/copies.py",
    "bbctl/enginecheck.py",
    "bbctl/stores/keeper.py",
    "bbctl/stores/servers.py",
    "bbctl/stores/look.py",
    "bbctl/lab/",
    "bbctl/render/workflow.py",
    "bbctl/render/history.py",
    "bbctl/render/queues.py",
)


def sources() -> list[Path]:
    return sorted([*ROOT.glob("bbctl/**/*.py"), *ROOT.glob("engine/**/*.py")])


def imports(path: Path) -> set[str]:
    """The modules a file imports, wherever in it. Imports only for the type checker count too: they are knowledge."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{a.name}" for a in node.names}
    return found


@pytest.mark.parametrize("library", sorted(HOMES))
def test_an_outside_library_is_imported_in_its_own_files_only(library: str) -> None:
    strangers = []
    for path in sources():
        name = path.relative_to(ROOT).as_posix()
        if any(i == library or i.startswith(library + ".") for i in imports(path)) and not name.startswith(
            HOMES[library]
        ):
            strangers.append(name)
    assert not strangers


def test_the_engine_does_not_know_bbctl() -> None:
    assert not [p for p in ROOT.glob("engine/**/*.py") if any(i.split(".")[0] == "bbctl" for i in imports(p))]


def test_host_operations_do_not_know_the_engine() -> None:
    knowing = [
        name
        for path in ROOT.glob("bbctl/**/*.py")
        if any(i.split(".")[0] == "engine" for i in imports(path))
        and not (name := path.relative_to(ROOT).as_posix()).startswith(KNOW_THE_ENGINE)
    ]
    assert not knowing


@pytest.mark.parametrize("command", ["restart", "status", "kill", "exec", "ping", "logs", "runs"])
def test_what_repairs_the_stores_needs_neither_the_engine_nor_a_store_s_library(command: str) -> None:
    """Everything that the command may import, found by importing it in a fresh interpreter."""
    code = (
        "import importlib, sys\n"
        f"importlib.import_module('bbctl.cli.{command}')\n"
        "import bbctl.run.runner, bbctl.look, bbctl.kill, bbctl.ssh.transport\n"
        "print(*sorted(m for m in sys.modules if m.split('.')[0] in ('engine', 'pymongo', 'redis', 'rq', 'bson')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == ""


def test_a_command_on_hosts_starts_without_what_fabric_never_uses_and_its_test_double_works_all_the_same() -> None:
    code = (
        "import sys, bbctl.cli.exec, bbctl.ssh.transport, bbctl.cli.audited, bbctl.render.answers\n"
        "print(*sorted({m.split('.')[0] for m in sys.modules} & {'asyncio', 'ssl', 'unittest'}))\n"
        "import invoke\n"
        "double = invoke.MockContext(run={'x': invoke.Result('said')})\n"
        "print(double.run('x').stdout, double.run.called, 'asyncio' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.splitlines() == ["", "said True True"]


def test_packages_hold_a_docstring_only() -> None:
    for path in [*ROOT.glob("bbctl/**/__init__.py"), *ROOT.glob("engine/**/__init__.py")]:
        body = ast.parse(path.read_text(encoding="utf-8")).body
        assert len(body) == 1, f"{path}: an import of a table would drag this in"
        assert isinstance(body[0], ast.Expr), path


def test_imports_inside_functions_stand_in_the_doors_only() -> None:
    """Such an import hides a ring or a cost; the commands alone may delay one for the sake of start-up."""
    hidden = []
    for path in sources():
        name = path.relative_to(ROOT).as_posix()
        if name.startswith(("bbctl/cli/", "bbctl/render/", "bbctl/__main__.py")):
            continue
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(function, ast.FunctionDef):
                hidden += [
                    f"{name}:{n.lineno}" for n in ast.walk(function) if isinstance(n, ast.Import | ast.ImportFrom)
                ]
    assert not hidden
