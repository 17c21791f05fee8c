"""The lab on the screen, and the demo's story as it goes on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bbctl.render.screen import safe

NEXT = """\
Your turn:  bbctl -i lab status
            bbctl lab break accounting-worker2 hang-on-stop
            bbctl -i lab restart workers"""


def status(found: Mapping[str, Any], *, next: str | None) -> str:
    """The screen of `lab status`."""
    lines = []
    for host in found["hosts"]:
        jboss = f"jboss {host['jboss']}" if host["jboss"] else "jboss DOWN"
        broken = f"  broken: {', '.join(host['faults'])}" if host["faults"] else ""
        lines.append(f"{host['host']}  {host['address']}:{host['port']}  {jboss}  {host['vip']} of VIP{broken}")
    vip, client = found["vip"], found["client"]
    lines.append(f"vip     {vip['url']}  {vip['requests']} requests · {vip['errors']} errors")
    broken = f"  broken: {', '.join(client['faults'])}" if client["faults"] else ""
    lines.append(f"client  {client['url']}  {'running' if client['running'] else 'DOWN'}{broken}")
    lines.append("stores  " + " · ".join(f"{name} {one['state']}" for name, one in found["stores"].items()))
    return safe("\n".join([*lines, *(["", next] if next else [])]))
