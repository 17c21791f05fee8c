"""`bbctl runbook` and `bbctl links`: the page people read at 3 a.m., and whether it still tells the truth."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bbctl.cli.front import Call
from bbctl.errors import BbctlError, Failed, UsageError

if TYPE_CHECKING:
    from bbctl.runbook import Known, Page


def list_entries(ctx: typer.Context) -> None:
    """The entries of the runbook: severity, check, problem, and what to type first.

    \b
    Examples:
      bbctl runbook list
      bbctl runbook list -o name
    """
    from bbctl.render.inventory import columns

    call: Call = ctx.obj
    rows = [asdict(entry) for entry in _page(call).entries]
    cells = [[str(row["severity"]), row["id"], row["problem"], row["action"].strip("`")] for row in rows]
    call.show(rows, lambda: columns(cells, head=("severity", "id", "problem", "first")), name="id")


def show(
    ctx: typer.Context, id: Annotated[str, typer.Argument(metavar="ID", help="A check, an anchor, or the problem.")]
) -> None:
    """One entry of the runbook, with its directions.

    \b
    Examples:
      bbctl runbook show restart_jboss
      bbctl runbook show hung-stop
      bbctl runbook show "jboss is down"
    """
    from bbctl.runbook import find

    call: Call = ctx.obj
    page = _page(call)
    entry, section = find(page, id)
    value = (asdict(entry) if entry else {"id": id}) | {
        "directions": asdict(section) if section else None,
        "page": page.source,
    }

    def human() -> str:
        head = f"{entry.severity} · {entry.check or entry.id} · {entry.problem}" if entry else ""
        first = f"first    {entry.action.strip('`')}" if entry and entry.action else ""
        watch = f"watch    {entry.monitoring.strip('`')}" if entry and entry.monitoring else ""
        body = f"\n{section.title}\n\n{section.text}" if section else ""
        return "\n".join(part for part in (head, first, watch, body) if part)

    call.show(value, human, name="id")


def search(ctx: typer.Context, text: Annotated[str, typer.Argument(metavar="TEXT", help="In any case.")]) -> int:
    """Lines of the runbook that hold a text; none: exit 1.

    \b
    Examples:
      bbctl runbook search hornetq
    """
    from bbctl import runbook
    from bbctl.render.inventory import columns

    call: Call = ctx.obj
    rows: list[dict[str, Any]] = [
        {"line": at, "id": id, "text": line} for at, id, line in runbook.search(_page(call), text)
    ]
    call.show(rows, lambda: columns([str(row["line"]), row["id"], row["text"]] for row in rows), name="id")
    return 0 if rows else 1


def render(
    ctx: typer.Context, html: Annotated[bool, typer.Option("--html", help="One HTML file, anchors included.")] = False
) -> None:
    """The whole page, as Markdown or HTML.

    \b
    Examples:
      bbctl runbook render --html > runbook.html
    """
    from bbctl.render import page as pages

    call: Call = ctx.obj
    page = _page(call)
    text = pages.html(page.text) if html else page.text
    call.show({"page": page.source, "text": text}, lambda: text.rstrip("\n"), name="page")


def check(ctx: typer.Context) -> None:
    """Does the page still tell the truth? Names every command, flag, host, anchor, playbook or check that is not so.

    \b
    Examples:
      bbctl runbook check
    """
    from bbctl import runbook

    call: Call = ctx.obj
    page = _page(call)
    found = runbook.check(page, _known(call, page))
    rows = [asdict(drift) for drift in found]
    value = {"page": page.source, "entries": len(page.entries), "drift": rows}
    if found:
        said = "\n".join(f"  {page.source}:{drift.line}: {drift.what}" for drift in found)
        raise Failed(f"the runbook has drifted in {len(found)} places\n{said}", code="runbook-drift", result=value)
    call.show(
        value,
        lambda: f"{page.source} ok · {len(page.entries)} entries, all commands, hosts and anchors exist",
        name="page",
    )


def new(
    ctx: typer.Context,
    id: Annotated[str, typer.Argument(metavar="ID", help="The check it belongs to.")],
    problem: Annotated[
        str, typer.Option("--problem", metavar="TEXT", help="As the page will say it.")
    ] = "what is wrong",
    severity: Annotated[
        int, typer.Option("--severity", metavar="N", min=1, max=5, help="1 (bleeding money) to 5.")
    ] = 3,
) -> None:
    """The skeleton of a new entry, to paste into the page.

    \b
    Examples:
      bbctl runbook new certificate-expires --problem "a certificate ends soon" --severity 4
    """
    from bbctl.runbook import skeleton
    from bbctl.schema import NAME, NAME_EXPECTED

    call: Call = ctx.obj
    if not NAME.fullmatch(id):
        raise UsageError(f"ID: expected {NAME_EXPECTED}", next="bbctl runbook new --help")
    text = skeleton(id, problem, severity)
    call.show({"id": id, "text": text}, lambda: text.rstrip("\n"), name="id")


def links(
    ctx: typer.Context,
    what: Annotated[str | None, typer.Argument(metavar="[NAME|HOST]", help="One link's name, or hosts.")] = None,
    open_: Annotated[bool, typer.Option("--open", help="Open them in a browser.")] = False,
) -> None:
    """Dashboards, graphs, schedules: all of them, one by name, or those of hosts.

    \b
    Examples:
      bbctl links
      bbctl links splunk --open
      bbctl links accounting-worker2
    """
    from bbctl.render.inventory import links as text

    call: Call = ctx.obj
    rows = _links(call, what)
    if open_:
        _open([row["url"] for row in rows], call)
    call.show(rows, lambda: text(rows))


# -- parts -------------------------------------------------------------------------------------------------------


def _page(call: Call) -> Page:
    from bbctl.runbook import load

    return load(call.settings.runbook())


def _links(call: Call, what: str | None) -> list[dict[str, Any]]:
    from bbctl.inventory.fleet import links as of
    from bbctl.near import hint, shown
    from bbctl.targets import select

    fleet = call.fleet
    general = [{"name": name, "host": None, "url": url} for name, url in of(fleet).items()]
    if what in fleet.links or what is None:
        hosts = list(fleet.hosts.values())
    else:
        try:
            hosts, general = select(fleet, [what]), []
        except UsageError:
            known = [*fleet.links, *fleet.hosts, *fleet.groups]
            raise UsageError(
                f"no link or host {shown(what)}{hint(what, known)}", code="unknown-target", next="bbctl links"
            ) from None
    rows = general + [
        {"name": name, "host": host.name, "url": url} for host in hosts for name, url in of(fleet, host).items()
    ]
    return [row for row in rows if what not in fleet.links or row["name"] == what]


def _open(urls: list[str], call: Call) -> None:
    import webbrowser

    for url in urls:
        if not url.startswith(("http://", "https://")):
            call.say(f"{url} is no web address")
        elif not webbrowser.open(url):
            raise Failed("there is no browser here", next="bbctl links · open it elsewhere", code="no-browser")


def _known(call: Call, page: Page) -> Known:
    """What exists now: commands with their flags, hosts, checks, playbooks."""
    from bbctl.checks import CHECKS
    from bbctl.ranges import expand
    from bbctl.runbook import Known

    fleet = call.fleet
    written = fleet.source.read_text("utf-8", "replace") if fleet.source else ""

    def host(name: str) -> bool:
        # A VIP or a store that the inventory names, in a comment too, exists.
        return not fleet.hosts or all(one in fleet.hosts or one in written for one in expand(name))

    return Known(
        command=lambda text: _wrong(call, text), host=host, checks=frozenset(CHECKS), playbooks=_playbooks(call)
    )


def _wrong(call: Call, text: str) -> str | None:
    """What is wrong with a command line, by the same parser that would run it; nothing is run."""
    from bbctl.cli import app
    from bbctl.targets import select

    try:
        words = app.sort(shlex.split(text)[1:])
        if not words.rest:
            return None
        command, rest = app.find(words.rest)
        made = typer.Typer(add_completion=False, rich_markup_mode=None)
        made.command(name=command.name)(app.load(command))
        params = typer.main.get_command(made).make_context(command.name, list(rest)).params
        for name in ("target", "targets", "host"):
            given = params.get(name) or ()
            named = [word for word in ((given,) if isinstance(given, str) else given) if not word.isupper()]
            if named and call.fleet.hosts:
                select(call.fleet, named)
    except BbctlError as error:
        return error.message
    except Exception as error:
        said = getattr(error, "format_message", None)
        if said is None:
            raise
        return str(said())
    return None


def _playbooks(call: Call) -> dict[str, tuple[str, str | None]]:
    from pathlib import Path

    from bbctl.yamlfile import Map, Scalar
    from bbctl.yamlfile import load as load_yaml

    found: dict[str, tuple[str, str | None]] = {}
    for path in sorted(Path(call.settings.playbooks().value).glob("*.yml")):
        node = load_yaml(path)
        said = {k: v.text for k, v in node.items.items() if isinstance(v, Scalar)} if isinstance(node, Map) else {}
        found[path.stem] = (said.get("problem", ""), said.get("runbook"))
    return found
