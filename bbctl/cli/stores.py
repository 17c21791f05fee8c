"""`bbctl stores …`: the embedded MongoDB and Redis up and down, and how the stores are, embedded or named."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from bbctl.cli.front import Call
from bbctl.errors import Refused
from bbctl.render import stores as screens
from bbctl.settings import masked
from bbctl.stores import embedded as stores
from bbctl.stores import look as storelook
from bbctl.stores.look import Store

ShowPasswords = Annotated[bool, typer.Option("--show-passwords", help="Print the URLs as programmes need them.")]


def up(ctx: typer.Context, show_passwords: ShowPasswords = False) -> int:
    """Start the embedded MongoDB and Redis and wait until both answer. They belong to no command: they run on, come back by
    themselves when killed, and keep their data. Refused (3) where the inventory or the environment names a store.

    \b
    Examples:
      bbctl stores up
      bbctl stores up -o json --show-passwords
    """
    call: Call = ctx.obj
    _refuse_named(call, "up")
    stores.ensure_stores(call.settings.home(), say=call.say)
    return _show(call, show_passwords)


def down(ctx: typer.Context) -> None:
    """Stop them, and wait until nothing of them runs. Their data stays.

    \b
    Examples:
      bbctl stores down
    """
    call: Call = ctx.obj
    _refuse_named(call, "down")
    home = call.settings.home()
    ran = stores.down(home)
    said = "stopped; the data stays in" if ran else "nothing was running in"
    call.show({"stopped": ran, "home": str(home)}, lambda: f"{said} {home / 'stores'}")


def status(ctx: typer.Context, show_passwords: ShowPasswords = False) -> int:
    """How the stores are: asked, not remembered. Starts nothing. Exit 1 where one is not well, 4 where one cannot be used.

    \b
    Examples:
      bbctl stores status
      bbctl stores status -o json --show-passwords
    """
    return _show(ctx.obj, show_passwords)


def _show(call: Call, show_passwords: bool) -> int:
    named = call.settings.stores()
    found = storelook.named(named) if named.named else storelook.embedded(call.settings.home())
    shown = [store if show_passwords else replace(store, url=store.url and masked(store.url)) for store in found]
    call.show({store.name: screens.row(store) for store in shown}, lambda: screens.status(shown))
    return _exit(found)


def _exit(found: list[Store]) -> int:
    if any(store.state in ("down", "unusable") for store in found):
        return 4
    return 0 if all(store.state in ("ok", "none") for store in found) else 1


def _refuse_named(call: Call, verb: str) -> None:
    for name in ("mongo", "redis"):
        setting = call.settings.store_setting(name)
        if setting.value:
            raise Refused(
                f"stores {verb}: {setting.source} names a store ({masked(setting.value)}), so nothing embedded is run",
                code="stores-named",
                next="bbctl stores status",
            )
