"""Every key of an inventory: kind, default, meaning. Reading, messages, `config schema` and the sample all come from here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from bbctl.model import Hang, Health, Lock
from bbctl.schema import (
    DURATION_LEAF,
    FILE,
    NAME_LEAF,
    PORT,
    REGEX,
    SECRET,
    TEXT,
    Key,
    Many,
    Record,
    Table,
    matching,
    one_of,
    whole,
)
from bbctl.yamlfile import Map

NAMES = Many(of=TEXT, what="a string or a list of names", word=True)
NAME_LIST = Many(of=NAME_LEAF, what="a list of names", word=True)
ARGV = Many(of=TEXT, what="a command as a list, one argument each: [prog, arg]", least=1)
USER = matching(re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}\$?"), "a user name")
ADDRESS = matching(re.compile(r"[A-Za-z0-9:_][A-Za-z0-9._:%-]{0,252}"), "a host name or an IP address")
VIP_ADDRESS = matching(re.compile(r"[A-Za-z0-9:_{][A-Za-z0-9._:%{}-]{0,252}"), "a host name or an IP address")
_HOP = r"(?:[A-Za-z_][A-Za-z0-9_.-]*@)?[A-Za-z0-9\[_][A-Za-z0-9._:\]-]*"
JUMP = matching(re.compile(rf"{_HOP}(?:, ?{_HOP})*"), "[user@]host[:port], several with commas")
HTTP = matching(re.compile(r"https?://\S+"), "http:// or https:// and an address")
STEP = re.compile(r"[^\s].{0,199}")
WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._/-]{0,99}")
VAR = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
VARS = Table(
    what="names and values, to stand as {name} in services, vips and links",
    of=TEXT, name=VAR, name_expected="a name of letters, digits and '_'",
)  # fmt: skip

SSH = Record(
    what="how hosts are logged in to",
    keys={
        "user": Key(kind=USER, doc="login user; default: your login name", sample="jboss"),
        "port": Key(kind=PORT, doc="sshd's port", default="22", sample=22),
        "connect_timeout": Key(kind=DURATION_LEAF, doc="from resolving to logged in", default="5s", sample="5s"),
        "identity_file": Key(kind=FILE, doc="private key; default: the agent and ~/.ssh/id_*"),
        "known_hosts": Key(
            kind=FILE, doc="host keys, written by `bbctl hosts trust`; default: known_hosts beside this file"
        ),
        "jump": Key(kind=JUMP, doc="bastion, as [user@]host[:port]"),
        "config": Key(kind=FILE, doc="an ssh_config to read; none is read by itself"),
    },
)

STORES = Record(
    what="the stores of the workflow engine",
    keys={
        "mongo": Key(
            kind=matching(re.compile(r"mongodb(\+srv)?://\S+"), "a mongodb:// URL", secret=True),
            doc="MongoDB replica set; default: an embedded one",
            example="mongodb://db1.snc1,db2.snc1,db3.snc1/backbeat?replicaSet=rs0",
        ),
        "redis": Key(
            kind=matching(re.compile(r"(rediss?|unix)://\S+"), "a redis:// URL", secret=True),
            doc="Redis; default: an embedded one",
            example="redis://general-redis-vip.snc1:6379/0",
        ),
    },
)

GROUP = Record(
    what="a group of hosts",
    keys={
        "hosts": Key(kind=NAMES, doc="hosts, ranges as {1-3} or [1-3]", sample="accounting-worker{1-3}.snc1"),
        "groups": Key(kind=NAME_LIST, doc="groups whose hosts belong here too"),
        "exclude": Key(kind=NAMES, doc="hosts of the above that do not; ranges, * and ? are understood"),
        "services": Key(kind=NAME_LIST, doc="what runs on each of them", sample=["jboss"]),
        "vip": Key(kind=NAME_LEAF, doc="the VIP in front of these services, or none", sample="backbeat"),
        "vars": Key(kind=VARS, doc="values for {name} in services, vips and links"),
    },
)

HOST = Record(
    what="what differs for one host",
    keys={
        "address": Key(kind=ADDRESS, doc="where it answers; default: its name", sample="10.0.0.11"),
        "port": Key(kind=PORT, doc="sshd's port", sample=22),
        "user": Key(kind=USER, doc="login user"),
        "identity_file": Key(kind=FILE, doc="private key"),
        "aliases": Key(kind=NAME_LIST, doc="other names for the command line", sample=["w1"]),
        "labels": Key(kind=Table(what="labels", of=TEXT, name=WORD, name_expected="a label"), doc="for -l key=value"),
        "vars": Key(kind=VARS, doc="values for {name}; they win over the groups'"),
        "services": Key(kind=NAME_LIST, doc="what runs here besides the groups' services"),
    },
)

PROCESS = Record(
    what="which process is the service",
    keys={
        "match": Key(kind=REGEX, doc="searched in the command line joined by blanks", required=True,
                     sample="org\\.jboss\\.Main -c accounting"),
        "user": Key(kind=USER, doc="whose processes are searched; default: run_as, else the login user", sample="jboss"),
        "pidfile": Key(kind=TEXT, doc="a pid file that must name the same process"),
    },
)  # fmt: skip

HANG = Record(
    what="when a stop has hung",
    keys={
        "after": Key(kind=REGEX, doc="the log's last word before it hangs", required=True, sample="stopp?ing hornetq"),
        "within": Key(kind=DURATION_LEAF, doc="silence after it that proves the hang", required=True, sample="60s"),
    },
    build=Hang,
)

HEALTH = Record(
    what="how the service proves that it is well",
    keys={
        "url": Key(kind=HTTP, doc="asked through the SSH connection; 2xx is needed", required=True,
                   sample="http://{address}:8080/health"),
        "expect": Key(kind=REGEX, doc="searched in the body", sample='"status": *"OK"'),
        "times": Key(kind=whole(1, 1000), doc="good answers in a row", default="3", sample=3),
        "interval": Key(kind=DURATION_LEAF, doc="between two questions", default="1s", sample="1s"),
        "timeout": Key(kind=DURATION_LEAF, doc="until it must be well", default="60s", sample="60s"),
        "from": Key(kind=one_of("host", "here"), doc="`here` asks from this machine", default="host"),
    },
    build=Health, rename={"from": "source"},
)  # fmt: skip

SERVICE = Record(
    what="a service",
    least=1,
    keys={
        "start": Key(kind=ARGV, doc="starts it", sample=["/usr/local/etc/init.d/something_jboss", "start"]),
        "stop": Key(kind=ARGV, doc="stops it", sample=["/usr/local/etc/init.d/something_jboss", "stop"]),
        "run_as": Key(
            kind=USER,
            doc="start and stop through `sudo -n -u` this user; NOPASSWD for these two and /bin/kill is enough; "
            "default: the login user",
        ),
        "process": Key(kind=PROCESS, doc="which process it is; nothing else is ever signalled"),
        "log": Key(kind=TEXT, doc="its log", sample="/var/groupon/jboss/accounting/logs/server.log"),
        "started": Key(kind=REGEX, doc="in the log: it has started", sample="Started in"),
        "stopped": Key(kind=REGEX, doc="in the log: it has stopped", sample="JBoss .*stopped"),
        "hang": Key(kind=HANG, doc="when a stop has hung"),
        "stop_timeout": Key(kind=DURATION_LEAF, doc="a stop that takes longer has hung", default="120s", sample="120s"),
        "start_timeout": Key(kind=DURATION_LEAF, doc="a start that takes longer has failed", default="180s", sample="180s"),
        "health": Key(kind=HEALTH, doc="how it proves that it is well"),
        "thread_dump": Key(kind=one_of("sigquit", "jstack", "none"), doc="how evidence is taken before a KILL",
                           default="none", sample="sigquit"),
        "dump_log": Key(kind=TEXT, doc="where a SIGQUIT dump lands; default: log",
                        sample="/var/groupon/jboss/accounting/logs/console.log"),
        "log_time": Key(kind=TEXT, doc="how its log writes the time, as for strptime; default: the usual ones are known"),
        "log_zone": Key(kind=TEXT, doc="time zone of its log, as Europe/Berlin or UTC; default: the host's"),
        "vip": Key(kind=NAME_LEAF, doc="its VIP, or none; default: its group's"),
    },
)  # fmt: skip

DRAIN_KINDS: Mapping[str, tuple[frozenset[str], frozenset[str]]] = {
    # kind: keys it needs, keys it may have besides
    "file": (frozenset({"path"}), frozenset()),
    "haproxy": (frozenset({"socket", "backend"}), frozenset({"host", "server"})),
    "command": (frozenset({"out", "in", "state"}), frozenset()),
}


def _check_drain(node: Map, read: Mapping[str, Any]) -> None:
    needed, optional = DRAIN_KINDS[read["kind"]]
    kind = read["kind"]
    for name in node.items:
        if name not in needed | optional | {"kind", "settle"}:
            raise node.error(f"drain: {name} has no meaning for kind {kind}", line=node.lines[name])
    if missing := sorted(needed - set(node.items)):
        raise node.error(f"drain: kind {kind} needs {', '.join(missing)}")


DRAIN = Record(
    what="how a host leaves and enters the VIP",
    keys={
        "kind": Key(kind=one_of(*DRAIN_KINDS), doc="file, haproxy or command", required=True, sample="file"),
        "settle": Key(kind=DURATION_LEAF, doc="wait after leaving", default="5s", sample="5s"),
        "path": Key(
            kind=TEXT, doc="file: there = in, removed = out", sample="/var/groupon/backbeat/public/heartbeat.txt"
        ),
        "socket": Key(kind=TEXT, doc="haproxy: its admin socket"),
        "host": Key(kind=NAME_LEAF, doc="haproxy: the host it runs on; default: here"),
        "backend": Key(kind=TEXT, doc="haproxy: the backend"),
        "server": Key(kind=TEXT, doc='haproxy: the server\'s name there; default: "{name}"'),
        "out": Key(kind=ARGV, doc="command, run here: take the host out"),
        "in": Key(kind=ARGV, doc="command, run here: put it back in"),
        "state": Key(kind=ARGV, doc="command, run here: print in or out"),
    },
    check=_check_drain,
)

VIP = Record(
    what="a VIP",
    keys={
        "address": Key(kind=VIP_ADDRESS, doc="where clients ask", sample="accounting-backbeat-vip.snc1"),
        "drain": Key(kind=DRAIN, doc="how a host leaves and enters"),
        "min_in_service": Key(kind=whole(0, 100_000), doc="no batch goes below this", default="0", sample=2),
    },
)

ALERTS = Record(
    what="where pages go",
    keys={
        "pagerduty": Key(doc="PagerDuty, Events API v2", kind=Record(what="PagerDuty", keys={
            "routing_key_file": Key(kind=FILE, doc="a file with the integration key, mode 0600"),
            "url": Key(kind=SECRET, doc="default: PagerDuty's own"),
        })),
        "webhook": Key(doc="any HTTP endpoint", kind=Record(what="a webhook", keys={
            "url": Key(kind=SECRET, doc="each alert is posted here as JSON"),
        })),
    },
)  # fmt: skip

LOCK = Record(
    what="the lock on each host",
    keys={
        "path": Key(kind=TEXT, doc="where it lies, on the host", default="~/.bbctl/lock", sample="~/.bbctl/lock"),
        "expires": Key(kind=DURATION_LEAF, doc="how long it lives without renewal", default="5m", sample="5m"),
    },
    build=Lock,
)

STORE_HOSTS = {  # with them the sample is the fleet of RUNBOOK.md
    "tokumx": {"hosts": "accounting-tokumx{1-3}.snc1"},
    "redis": {"hosts": "general-redis{1-2}.snc1"},
}

INVENTORY = Record(
    what="an inventory",
    keys={
        "site": Key(kind=TEXT, doc="where this fleet stands", sample="snc1"),
        "ssh": Key(kind=SSH, doc="how every host is logged in to"),
        "stores": Key(kind=STORES, doc="stores of the workflow engine; none named: embedded ones"),
        "groups": Key(kind=Table(what="groups by name", of=GROUP, example="workers", more=STORE_HOSTS),
                      doc="hosts that are alike"),
        "hosts": Key(kind=Table(what="hosts by name", of=HOST, empty_ok=True, example="accounting-worker1.snc1"),
                     doc="what differs for one host"),
        "services": Key(kind=Table(what="services by name", of=SERVICE, example="jboss"), doc="what runs on hosts", templated=True),
        "vips": Key(kind=Table(what="VIPs by name", of=VIP, example="backbeat"), templated=True,
                    doc="what stands in front of services"),
        "links": Key(kind=Table(what="links by name", of=TEXT, name=WORD, name_expected="a name"), templated=True,
                     doc="for `bbctl links`; {name} makes one for each host",
                     sample={"grapher": "https://grapher.example.com/{site}/{name}"}),
        "alerts": Key(kind=ALERTS, doc="where pages go"),
        "lock": Key(kind=LOCK, doc="the lock on each host"),
        "expected": Key(kind=Table(what="durations by step", of=DURATION_LEAF, name=STEP, name_expected="a step's name"),
                        doc="how long a workflow step may wait before it counts as late"),
    },
)  # fmt: skip
