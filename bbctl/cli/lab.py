"""`bbctl lab …` and `bbctl demo`: a practice cluster on this machine, to break and to mend."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

from bbctl.cli.front import Call
from bbctl.lab import cluster, faults
from bbctl.lab.ground import Ground
from bbctl.render import lab as screens
from bbctl.stores import embedded as stores

Workers = Annotated[int | None, typer.Option("--workers", metavar="N", help="How many hosts (3).")]
Where = Annotated[str, typer.Argument(metavar="HOST|client", help="A host of the lab, or its sample client.")]


def up(ctx: typer.Context, workers: Workers = None) -> None:
    """Start the practice cluster: hosts that speak SSH, on each a stand-in JBoss that is the HTTP API and a worker, a VIP in
    front, a client that sends invoices, stores of its own. No root; nothing outside $BBCTL_HOME/lab is touched.

    \b
    Examples:
      bbctl lab up
      bbctl -i lab status
      bbctl lab break accounting-worker2 hang-on-stop
      bbctl -i lab restart workers
    """
    call: Call = ctx.obj
    ground = cluster.up(call.settings.home(), workers=workers, say=call.say)
    found = _state(ground)
    call.show(found, lambda: screens.status(found, next=screens.NEXT))


def status(ctx: typer.Context) -> int:
    """How the practice cluster is: every host, what is broken on purpose, the VIP and its errors. Exit 1 where it is not whole.

    \b
    Examples:
      bbctl lab status
      bbctl lab status -o json
    """
    call: Call = ctx.obj
    found = _state(cluster.of(call.settings.home()))
    call.show(found, lambda: screens.status(found, next=None))
    whole = all(host["vip"] == "in" and host["jboss"] and not host["faults"] for host in found["hosts"])
    return 0 if whole and found["client"]["running"] and not found["client"]["faults"] else 1


def break_(
    ctx: typer.Context, target: Where, fault: Annotated[str, typer.Argument(metavar="FAULT", help="What shall break.")]
) -> None:
    """Break a host or the client.

    \b
    Of a host:    hang-on-stop crash slow-start never-started never-healthy drained out-of-memory ssh-down host-key
    Of client:    silent errors slow

    \b
    Examples:
      bbctl lab break accounting-worker2 hang-on-stop
      bbctl lab break client silent && bbctl -i lab wf stuck
    """
    _did(ctx.obj, target, lambda ground: faults.break_(ground, target, fault))


def mend(ctx: typer.Context, target: Where) -> None:
    """Take every fault of a host or the client away. A JBoss that is down or hangs is started again.

    \b
    Examples:
      bbctl lab mend accounting-worker2
      bbctl lab mend client
    """
    _did(ctx.obj, target, lambda ground: faults.mend(ground, target))


def down(ctx: typer.Context) -> None:
    """Take the lab down: nothing of it runs on. Its data stays for the next `lab up`.

    \b
    Examples:
      bbctl lab down
    """
    call: Call = ctx.obj
    ran = cluster.down(call.settings.home())
    call.show({"stopped": ran}, lambda: "the lab is down" if ran else "nothing of a lab was running")


def demo(
    ctx: typer.Context,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the lab up afterwards.")] = False,
    invoices: Annotated[
        int, typer.Option("--invoices", metavar="N", min=1, max=2000, help="How many workflows.")
    ] = 100,
) -> int:
    """The whole story in two minutes: a lab, a hundred invoices on their way, one worker that hangs on stop, and a rolling
    restart that finds it, saves evidence, kills it and goes on, while nothing is lost. Then the lab is taken down.

    \b
    Examples:
      bbctl demo
      bbctl demo --keep
    """
    from bbctl.lab import demo as story

    call: Call = ctx.obj
    stage = screens.Stage(quiet=call.output != "table")
    result = story.run(call.settings.home(), invoices=invoices, keep=keep, stage=stage)
    call.show(screens.result_row(result), lambda: screens.result(result, drawn=stage.drawn))
    return 0 if result.good else 1


def _did(call: Call, target: str, act: Callable[[Ground], str]) -> None:
    said = act(cluster.of(call.settings.home()))
    call.show({"target": target, "did": said}, lambda: said)


def _state(ground: Ground) -> dict[str, Any]:
    kept = stores.status(ground.folder)
    return {
        "hosts": [
            {
                "host": state.host.name, "address": state.host.address, "port": ground.ssh_port,
                "machine": state.machine, "jboss": state.jboss, "vip": state.vip, "faults": list(state.faults),
            }
            for state in cluster.hosts(ground)
        ],
        "vip": {"url": ground.vip_url, **(cluster.vip(ground) or {"requests": None, "errors": None})},
        "client": {
            "url": ground.client_url, "running": cluster.client_runs(ground),
            "faults": list(cluster.faults_of(ground.client_folder / "faults")),
        },
        "stores": {name: {"state": one["state"], "pid": one["pid"]} for name, one in kept.items()},
        "inventory": str(ground.inventory),
    }  # fmt: skip
