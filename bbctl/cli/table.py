"""Every command: its words, its panel in the help, one line, and where its function is. Nothing is imported until called.

A name of two words is a noun and a verb. `tail`: what stands after `--` is data for the command, never parsed.
`outputs` are the words `-o` takes beside json and yaml; the first is the default.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    name: str
    about: str
    where: str  # module below bbctl.cli ":" function
    tail: bool = False
    outputs: tuple[str, ...] = ("table",)
    usage_exit: int = 2  # sweep alone follows the monitoring convention: 3, for whatever keeps it from a verdict

    @property
    def formats(self) -> tuple[str, ...]:
        """All that `-o` takes, the default first. What comes as lines is no one YAML document."""
        return (*self.outputs, "json", *(() if self.outputs[0] == "text" else ("yaml",)))


LISTS = ("table", "name")

PANELS: dict[str, tuple[Command, ...]] = {
    "ON CALL": (
        Command("diagnose", "what is wrong, with evidence and the next command", "diagnose:diagnose"),
        Command("status", "process, health and VIP of every service", "status:status", outputs=LISTS),
        Command("restart", "one host at a time: out of the VIP, stop, start, proven healthy, back in", "restart:restart"),
        Command("stop", "out of the VIP and stopped; stays out", "restart:stop"),
        Command("start", "started, proven healthy, into the VIP", "restart:start"),
        Command("kill", "signal one proven process", "kill:kill"),
        Command("drain", "out of the VIP, with owner, reason and lease", "restart:drain"),
        Command("undrain", "back into the VIP", "restart:undrain"),
        Command("logs", "the last lines, or what matches, or follow", "logs:logs", outputs=("text",)),
        Command("threads", "thread dumps; deadlocks and lock owners named", "threads:threads"),
        Command("shell", "an interactive login in the service's log folder", "shell:shell"),
        Command("cdl", "the same as shell", "shell:shell"),
        Command("unlock", "release a host's lock", "unlock:unlock"),
    ),
    "WORKFLOWS": (
        Command("workflow why", "why is it not finished, and what to do", "workflow:why"),
        Command("workflow stuck", "all that need attention, grouped by cause", "workflow:stuck", outputs=LISTS),
        Command("workflow heal", "repair what a crash left; a dry run without --apply", "workflow:heal"),
        Command("workflow list", "find workflows", "listing:list_workflows", outputs=LISTS),
        Command("workflow show", "the tree: age, attempt, next try, the blocker", "workflow:show"),
        Command("workflow history", "every change, or what ran when", "workflow:history"),
        Command("workflow start", "create a workflow, and signal it", "launch:start"),
        Command("workflow signal", "send a signal", "launch:signal"),
        Command("workflow retry", "run a failed or silent node again", "steer:retry"),
        Command("workflow resolve", "go on as if the node had succeeded", "steer:resolve"),
        Command("workflow timeout", "end the wait for a silent client as an error", "steer:timeout"),
        Command("workflow shutdown", "give the node up, and what follows it", "steer:shutdown"),
        Command("workflow cancel", "deactivate a node and its children", "steer:cancel"),
        Command("workflow reset", "deactivate a node's children", "steer:reset"),
        Command("workflow pause", "start nothing more", "steer:pause"),
        Command("workflow resume", "go on after a pause", "steer:resume"),
        Command("workflow complete", "close a workflow: signals are refused from now on", "steer:complete"),
        Command("workflow report", "the daily activity report", "workflow:report"),
        Command("queues", "depth, latency, workers, timers, periodic jobs", "queues:queues"),
    ),
    "RUNBOOK": (
        Command("runbook list", "the entries", "runbook:list_entries", outputs=LISTS),
        Command("runbook show", "one entry", "runbook:show"),
        Command("runbook search", "entries that hold a text", "runbook:search", outputs=LISTS),
        Command("runbook render", "the page as Markdown or HTML", "runbook:render"),
        Command("runbook check", "does the page still tell the truth?", "runbook:check"),
        Command("runbook new", "an entry's skeleton", "runbook:new"),
        Command("playbook list", "the playbooks", "playbook:list_playbooks", outputs=LISTS),
        Command("playbook show", "one playbook", "playbook:show"),
        Command("playbook check", "is the file right?", "playbook:check"),
        Command("playbook plan", "what it would do, as a file to approve", "playbook:plan"),
        Command("playbook run", "carry it out", "playbook:run"),
        Command("runs list", "runs, newest first", "runs:list_runs", outputs=LISTS),
        Command("runs show", "one run", "runs:show"),
        Command("runs resume", "go on with the hosts that are not done", "runs:resume"),
        Command("runs abort", "give a run up and unlock its hosts", "runs:abort"),
        Command("links", "dashboards, graphs, schedules", "runbook:links", outputs=LISTS),
        Command("timeline", "who changed what, when", "timeline:timeline"),
        Command("audit list", "every act, by whom", "audit:list_acts"),
        Command("audit verify", "is the audit file whole?", "audit:verify"),
    ),
    "WATCH": (
        Command("sweep", "all checks over all hosts, for cron", "sweep:sweep",
                outputs=("text", "nagios", "prometheus"), usage_exit=3),
        Command("check list", "the checks of a sweep", "sweep:check_list", outputs=LISTS),
        Command("check show", "one check", "sweep:check_show"),
        Command("silence add", "page nobody about a target for a while", "silence:add"),
        Command("silence list", "silences in force", "silence:list_silences", outputs=LISTS),
        Command("silence end", "end a silence", "silence:end"),
        Command("alert test", "send a test page", "silence:test"),
    ),
    "RUN IT": (
        Command("serve", "the HTTP API", "serve:serve"),
        Command("work", "workers: they run timers, the healer and periodic jobs too", "work:work"),
        Command("client add", "a client and its endpoints; prints its token", "client:add"),
        Command("client list", "the clients", "client:list_clients", outputs=LISTS),
        Command("client edit", "other endpoints, another deadline", "client:edit"),
        Command("client rotate", "a new token", "client:rotate"),
        Command("client remove", "remove a client", "client:remove"),
        Command("stores up", "start the embedded MongoDB and Redis", "stores:up"),
        Command("stores down", "stop them", "stores:down"),
        Command("stores status", "how the stores are", "stores:status"),
    ),
    "SET UP": (
        Command("init", "write a commented sample inventory", "init:init"),
        Command("config show", "every setting, and where it came from", "config:show"),
        Command("config check", "is the inventory right?", "config:check"),
        Command("config schema", "the inventory's JSON Schema", "config:schema"),
        Command("hosts", "the hosts of the inventory", "hosts:hosts", outputs=LISTS),
        Command("hosts trust", "add host keys after showing fingerprints", "trust:trust"),
        Command("ping", "can they be logged in to?", "ping:ping", outputs=LISTS),
        Command("exec", "run a command on many hosts", "exec:exec_", tail=True),
        Command("doctor", "is this machine ready?", "doctor:doctor"),
        Command("lab up", "a practice cluster, on this machine, without root", "lab:up"),
        Command("lab status", "how the practice cluster is", "lab:status"),
        Command("lab break", "break a host or the client of the lab", "lab:break_"),
        Command("lab mend", "mend it", "lab:mend"),
        Command("lab down", "take the lab down", "lab:down"),
        Command("demo", "the whole story in two minutes", "lab:demo"),
        Command("explain", "what an error code means", "explain:explain"),
        Command("completion", "the completion script for your shell", "completion:completion"),
    ),
}  # fmt: skip

COMMANDS: dict[str, Command] = {c.name: c for panel in PANELS.values() for c in panel}

# A noun is understood in singular and plural.
NOUNS: dict[str, str] = {
    "host": "hosts", "wf": "workflow", "workflows": "workflow", "run": "runs", "store": "stores", "clients": "client",
    "playbooks": "playbook", "runbooks": "runbook", "link": "links", "queue": "queues", "log": "logs", "thread": "threads",
    "checks": "check", "silences": "silence", "alerts": "alert", "labs": "lab", "configs": "config", "audits": "audit",
}  # fmt: skip


def nouns() -> set[str]:
    """The first words of all commands of two words."""
    return {name.split()[0] for name in COMMANDS if " " in name}
