"""`bbctl config`: which values are in force, whether the inventory is right, and what may stand in it."""

from __future__ import annotations

import json
from dataclasses import asdict

import typer

from bbctl.cli.front import Call
from bbctl.errors import UsageError


def show(ctx: typer.Context) -> None:
    """Every setting, its value and where it came from; secrets masked.

    \b
    Examples:
      bbctl config show
      bbctl -i lab config show -o json
    """
    from bbctl.effective import values
    from bbctl.render import inventory as screens

    call: Call = ctx.obj
    found = values(call.settings)
    call.show([asdict(value) for value in found], lambda: screens.settings(found), name="key")


def check(ctx: typer.Context) -> None:
    """Is the inventory right? Complaints name file and line; remarks say what may not be meant.

    \b
    Examples:
      bbctl config check
      bbctl -i ./inventory.yml config check
    """
    from bbctl.inventory.remarks import remarks
    from bbctl.render import inventory as screens

    call: Call = ctx.obj
    fleet = call.fleet
    if fleet.source is None:
        raise UsageError("there is no inventory to check", code="no-inventory", next="bbctl init DIR · or -i FILE")
    said = remarks(fleet)
    value = {
        "file": str(fleet.source), "site": fleet.site, "hosts": len(fleet.hosts), "groups": len(fleet.groups),
        "services": len(fleet.services), "vips": len(fleet.vips), "ok": True, "remarks": said,
    }  # fmt: skip
    call.show(value, lambda: screens.verdict(fleet, said), name="file")


def schema(ctx: typer.Context) -> None:
    """The JSON Schema of an inventory, for editors.

    \b
    Examples:
      bbctl config schema > inventory.schema.json
    """
    from bbctl.inventory.keys import INVENTORY
    from bbctl.schema import json_schema

    call: Call = ctx.obj
    value = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "bbctl inventory"} | json_schema(
        INVENTORY
    )
    call.show(value, lambda: json.dumps(value, ensure_ascii=False, indent=2), name="title")
