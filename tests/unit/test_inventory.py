"""An inventory: what it means, and what is refused with file and line."""

from __future__ import annotations

import dataclasses
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bbctl.errors import ConfigError
from bbctl.inventory import sample
from bbctl.inventory.fleet import links, load, parse
from bbctl.inventory.keys import DRAIN, HEALTH, INVENTORY, LOCK, SERVICE, SSH, VIP
from bbctl.inventory.remarks import remarks
from bbctl.model import Drain, Fleet, Health, Lock, Service, Ssh, Vip
from bbctl.schema import Key, Many, Record, Table, json_schema, read
from bbctl.yamlfile import Scalar

WHOLE = """\
site: NO
ssh: {user: jboss, port: "2222", connect_timeout: "3s", identity_file: keys/id, known_hosts: ~/known}
groups:
  workers:
    hosts: accounting-worker{1-3}.snc1
    services: [jboss]
    vip: backbeat
    vars: {instance: "a.b"}
  spare: {hosts: [x1, "y[01-02],z"], exclude: "y*2"}
  both: {groups: [workers, spare], exclude: accounting-worker3.snc1}
hosts:
  accounting-worker1.snc1:
    {address: 10.0.0.11, port: 22, user: root, aliases: [w1], labels: {rack: a}, vars: {instance: c+}, services: [dj]}
  alone:
services:
  jboss:
    start: [/init, start, "{name}", "two words {site}"]
    stop: [/init, stop]
    run_as: app
    process: {match: "Main -c {instance} [0-9]{3}"}
    log: "/logs/{instance}/server.log"
    hang: {after: "stopp?ing", within: 60s}
    health: {url: "http://{address}:{port}/h?u={user}", expect: '{"status": *"OK"}'}
  dj: {process: {match: delayed_job}, vip: none}
vips:
  backbeat: {address: vip.snc1, drain: {kind: haproxy, socket: admin.sock, backend: b}, min_in_service: 2}
links: {splunk: "https://s/{site}", graph: "https://g/{name}"}
expected: {send-to-bank: 5m, "Send to: bank!": 1h}
alerts: {webhook: {url: "https://hooks/x"}, pagerduty: {routing_key_file: key}}
lock: {expires: 1m}
"""


def fleet(text: str, path: str = "/etc/bbctl/inventory.yml") -> Fleet:
    return parse(text, path, {"USER": "ann"})


def refusal(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(text, "i.yml", {})
    assert re.match(r"i\.yml:\d+: ", caught.value.message)
    return caught.value.message.removeprefix("i.yml:")


# -- what it means -----------------------------------------------------------------------------------------------


def test_hosts_stand_in_the_order_of_groups_then_of_hosts() -> None:
    known = fleet(WHOLE)
    workers = [f"accounting-worker{number}.snc1" for number in (1, 2, 3)]
    assert list(known.hosts) == [*workers, "x1", "y01", "z", "alone"]
    assert known.groups["both"] == (workers[0], workers[1], "x1", "y01", "z")
    assert known.hosts["alone"].groups == ()


def test_what_a_host_says_wins_over_the_defaults() -> None:
    first, second = list(fleet(WHOLE).hosts.values())[:2]
    assert (first.address, first.ssh.port, first.ssh.user, first.aliases) == ("10.0.0.11", 22, "root", ("w1",))
    assert (second.address, second.ssh.port, second.ssh.user) == (second.name, 2222, "jboss")
    assert second.ssh.connect_timeout == 3
    assert first.labels == {"rack": "a"}


def test_scalars_are_read_by_position() -> None:
    assert fleet(WHOLE).site == "NO"
    assert fleet("hosts: {a: {labels: {x: 010, y: yes, z: 1e3}}}").hosts["a"].labels == {
        "x": "010",
        "y": "yes",
        "z": "1e3",
    }


def test_paths_are_relative_to_the_file_and_the_tilde_is_expanded() -> None:
    ssh = fleet(WHOLE).hosts["alone"].ssh
    assert ssh.identity_file == Path("/etc/bbctl/keys/id")
    assert ssh.known_hosts == Path("~/known").expanduser()
    assert fleet("hosts: {a: }").hosts["a"].ssh.known_hosts == Path("/etc/bbctl/known_hosts")
    assert fleet(WHOLE).alerts["pagerduty"]["routing_key_file"] == Path("/etc/bbctl/key")


def test_placeholders_are_filled_for_each_host_each_within_its_own_argument() -> None:
    service = fleet(WHOLE).hosts["accounting-worker2.snc1"].service("jboss")
    assert service is not None
    assert service.start == ("/init", "start", "accounting-worker2.snc1", "two words NO")
    assert service.log == "/logs/a.b/server.log"
    assert service.health is not None
    assert service.health.url == "http://accounting-worker2.snc1:2222/h?u=jboss"


def test_in_a_regex_values_are_escaped_and_other_braces_stay() -> None:
    first, second = list(fleet(WHOLE).hosts.values())[:2]
    for host, instance in ((first, "c+"), (second, "a.b")):
        service = host.service("jboss")
        assert service is not None
        assert service.process is not None
        assert service.process.match == f"Main -c {re.escape(instance)} [0-9]{{3}}"
        assert service.health is not None
        assert service.health.expect == '{"status": *"OK"}'


def test_a_value_with_braces_is_not_filled_again() -> None:
    known = fleet("hosts: {a: {vars: {x: '{name}'}, services: [s]}}\nservices: {s: {log: '/{x}'}}")
    assert known.hosts["a"].services[0].log == "/{name}"


def test_services_of_groups_and_host_are_merged_and_the_vip_is_the_groups_unless_the_service_names_its_own() -> None:
    first = fleet(WHOLE).hosts["accounting-worker1.snc1"]
    assert [(s.name, s.vip.name if s.vip else None) for s in first.services] == [("jboss", "backbeat"), ("dj", None)]
    own = fleet("groups: {g: {hosts: a, services: s, vip: v}}\nservices: {s: {log: /x, vip: w}}\nvips: {v: {}, w: {}}")
    assert [s.vip.name for s in own.hosts["a"].services if s.vip] == ["w"]


def test_the_process_belongs_to_run_as_else_to_the_login_user() -> None:
    first = fleet(WHOLE).hosts["accounting-worker1.snc1"]
    assert [s.process.user for s in first.services if s.process] == ["app", "root"]


def test_nobody_becomes_the_user_that_he_is_logged_in_as() -> None:
    known = fleet(
        "ssh: {user: jboss}\ngroups: {g: {hosts: [a, b], services: s}}\nhosts: {b: {user: ops}}\n"
        "services: {s: {run_as: jboss, process: {match: x}}}"
    )
    services = [known.hosts[name].services[0] for name in "ab"]
    assert [s.run_as for s in services] == [None, "jboss"]
    assert [s.process.user for s in services if s.process] == ["jboss", "jboss"]


def test_a_drain_of_haproxy_names_the_host_as_its_server_and_a_socket_here_is_relative_to_the_file() -> None:
    service = fleet(WHOLE).hosts["accounting-worker2.snc1"].service("jboss")
    assert service is not None
    assert service.vip is not None
    assert service.vip.drain == Drain(
        kind="haproxy", socket="/etc/bbctl/admin.sock", backend="b", server="accounting-worker2.snc1"
    )


def test_links_without_a_host_are_general_and_the_others_belong_to_each_host() -> None:
    known = fleet(WHOLE)
    assert links(known) == {"splunk": "https://s/NO"}
    assert links(known, known.hosts["alone"]) == {"graph": "https://g/alone"}


def test_defaults_of_the_table_are_those_of_the_records() -> None:
    pairs: list[tuple[Record, Any, Any]] = [
        (SSH, Ssh(user="x"), {}), (LOCK, Lock(), {}), (SERVICE, Service(name="x"), {}),
        (HEALTH, Health(url="x"), {"from": "source"}), (DRAIN, Drain(kind="file"), {}), (VIP, Vip(name="x"), {}),
    ]  # fmt: skip
    for record, made, names in pairs:
        for name, key in record.keys.items():
            if key.default is not None:
                said = read(Scalar("t", 1, key.default, False), key.kind, where=name)
                assert said == getattr(made, names.get(name, name)), f"{record.what}: {name}"


def test_every_key_of_the_records_can_be_said() -> None:
    assert {f.name for f in dataclasses.fields(Service)} - {"name"} == set(SERVICE.keys)
    assert {f.name for f in dataclasses.fields(Ssh)} == set(SSH.keys)


# -- what is refused ---------------------------------------------------------------------------------------------

REFUSED = {
    "an unknown key": ("sit: x", "1: unknown key \"sit\": did you mean site?"),
    "an unknown key below": ("site: x\nssh:\n  prot: 22", '3: unknown key "prot" in ssh: did you mean port?'),
    "a duplicate key": ("site: x\nsite: y", '2: duplicate key "site"'),
    "an alias": ("site: &a x\nlinks: {a: *a}", "1: anchors"),
    "a tag": ("site: !!str x", "1: tags"),
    "a port in base sixty": ("ssh: {port: 22:22}", "1: ssh.port: \"22:22\" is wrong, expected digits"),
    "a port in octal": ("ssh: {port: 010}", "1: ssh.port"),
    "a port too high": ("ssh: {port: 65536}", "1: ssh.port"),
    "a port of zero": ("ssh: {port: 0}", "1: ssh.port"),
    "a port with words": ("ssh: {port: ssh}", "1: ssh.port"),
    "a duration without unit": ("ssh: {connect_timeout: 5}", "expected a duration such as"),
    "a missing value": ("site:", "1: site: a value is missing"),
    "a list for a word": ("site: [a]", "1: site: expected text, found a list"),
    "a word for a map": ("ssh: jboss", "1: ssh: expected how hosts are logged in to, found a single value"),
    "a list as file": ("- a", "1: the file: expected an inventory, found a list"),
    "a range backwards": ("groups: {g: {hosts: 'w{3-1}'}}", "1: groups.g: \"w{3-1}\": 3-1 runs backwards"),
    "a range without end": ("groups: {g: {hosts: 'w[1-999999999]'}}", "stands for more than"),
    "a host in capitals": ("groups: {g: {hosts: W1}}", 'groups.g: "W1" is not a name'),
    "a host with a command in it": ("hosts: {'$(id)': }", '"$(id)" is not a name'),
    "a host with a dash first": ("hosts: {-oProxyCommand: }", "is not a name"),
    "a user with an option": ("ssh: {user: -oX}", "ssh.user"),
    "a jump host with an option": ("ssh: {jump: -oProxyCommand=x}", "ssh.jump"),
    "an address with a blank": ("hosts: {a: {address: 'a b'}}", "hosts.a.address"),
    "an unknown group": ("groups:\n  g:\n    groups: [gg]\n", '3: groups.g: unknown group "gg": did you mean g?'),
    "a group in itself": ("groups: {a: {groups: [b]}, b: {groups: [a]}}", "contains itself"),
    "an exclusion of nobody": ("groups: {g: {hosts: host1, exclude: host2}}", '"host2" matches no host of it: did you mean host1?'),
    "an unknown service": ("groups: {g: {hosts: a, services: [jbos]}}\nservices: {jboss: {log: /x}}", "did you mean jboss?"),
    "an unknown VIP": ("groups: {g: {hosts: a, vip: backbat}}\nvips: {backbeat: {}}", "did you mean backbeat?"),
    "an empty service": ("services: {s: {}}", "services.s: at least 1 of"),
    "a command as one string": ("services: {s: {start: /init start}}", "expected a command as a list"),
    "an empty command": ("services: {s: {start: []}}", "found an empty list"),
    "a broken regex": ("services: {s: {started: '('}}", "not a regular expression"),
    "a regex of ten thousand braces": (f"services: {{s: {{started: '{'(' * 10_000}'}}}}", "a regular expression of more than"),
    "stray braces": ("services: {s: {log: '/a{b'}}", "braces may only enclose a name"),
    "an unknown placeholder": ("services: {s: {log: '/{nam}'}}", "unknown placeholder {nam}: did you mean name?"),
    "a placeholder that this host lacks": (
        "hosts: {a: {vars: {x: 1}}, b: {services: [s]}}\nservices: {s: {log: '/{x}'}}", "(for b)",
    ),
    "a stray brace in a link": ("links: {a: 'https://x/{'}", "1: \"https://x/{\": braces"),
    "a var named like a built-in": ("groups: {g: {hosts: a, vars: {name: x}}}", "groups.g.vars: name is given by the host itself"),
    "two groups that disagree": ("groups: {g: {hosts: a, vars: {x: 1}}, h: {hosts: a, vars: {x: 2}}}", "say it in hosts.a.vars"),
    "two VIPs for one service": (
        "groups: {g: {hosts: a, services: s, vip: v}, h: {hosts: a, services: s, vip: w}}\n"
        "services: {s: {log: /x}}\nvips: {v: {}, w: {}}", "puts s behind v",
    ),
    "an alias twice": ("hosts: {a: {aliases: x}, b: {aliases: x}}", "the alias x is the host a already"),
    "an alias named like a group": ("groups: {g: {hosts: a}}\nhosts: {a: {aliases: g}}", "the alias g is the group g"),
    "an alias named like another host": ("hosts: {a: {aliases: b}, b.c: }", "the alias b is the host b.c"),
    "a drain without its key": ("vips: {v: {drain: {kind: file}}}", "drain: kind file needs path"),
    "a drain with another's key": ("vips: {v: {drain: {kind: file, path: /x, socket: /y}}}", "socket has no meaning for kind file"),
    "an unknown kind of drain": ("vips: {v: {drain: {kind: flie, path: /x}}}", "did you mean file?"),
    "a proxy on no host": ("vips: {v: {drain: {kind: haproxy, socket: /x, backend: b, host: lb}}}", "is no host of this file"),
    "a VIP named none": ("vips: {none: {}}", "stands for no VIP"),
    "a health check of another kind": ("services: {s: {health: {url: 'file:///etc/passwd'}}}", "expected http://"),
    "a hang without its time": ("services: {s: {hang: {after: x}}}", "the key within is missing"),
    "too many hosts": ("groups: {g: {hosts: ['a{1-9999}', 'b{1-9999}']}}", "more than 10,000 hosts"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "said"), REFUSED.values(), ids=REFUSED.keys())
def test_it_is_refused(text: str, said: str) -> None:
    assert said in refusal(text)


def test_a_store_that_is_no_url_is_refused_without_repeating_its_password() -> None:
    message = refusal("stores: {mongo: 'mongo://u:s3cr3t@h/x'}")
    assert "expected a mongodb:// URL" in message
    assert "s3cr3t" not in message


def test_a_missing_file_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing\.yml:1: cannot be read: No such file") as caught:
        load(tmp_path / "nothing.yml", {})
    assert "bbctl init" in str(caught.value.next)


# -- bounded, whatever it says -----------------------------------------------------------------------------------

BIG = {
    "groups in a chain": "groups:\n" + "".join(f"  g{i}: {{groups: [g{i + 1}]}}\n" for i in range(5000)) + "  g5000: {hosts: a}\n",
    "many ranges": "groups: {g: {hosts: [" + "'a{1-9999}'," * 40_000 + "]}}",
    "every service on every host": "groups: {g: {hosts: 'a{1-9999}', services: ["
    + ",".join(f"s{i}" for i in range(2000)) + "]}}\nservices:\n" + "".join(f"  s{i}: {{log: '/{{name}}'}}\n" for i in range(2000)),
}  # fmt: skip


@pytest.mark.parametrize("text", BIG.values(), ids=BIG.keys())
def test_a_file_that_would_grow_without_bound_is_refused_soon(text: str) -> None:
    began = time.process_time()
    refusal(text)
    assert time.process_time() - began < 5


def _lines() -> st.SearchStrategy[str]:
    """Whole files made of the real keys, at wrong and right places, with wrong and right values."""
    words = sorted({name for kind in _records(INVENTORY) for name in kind.keys} | {"a", "w1", "none", "jboss"})
    scalar = st.sampled_from(
        ["", "x", "5s", "22", "{name}", "{x}", "w{1-3}", "a,b", "010", "~", "'('", "[]", "{}", "file", "none"]
    )
    tree = st.recursive(
        scalar,
        lambda inner: (
            st.dictionaries(st.sampled_from(words), inner, max_size=4).map(_flow)
            | st.lists(inner, max_size=3).map(_seq)
        ),
        max_leaves=25,
    )
    return st.dictionaries(st.sampled_from(list(INVENTORY.keys)), tree, max_size=5).map(_flow)


def _flow(items: dict[str, str]) -> str:
    return "{" + ", ".join(f"{key}: {value}" for key, value in items.items()) + "}"


def _seq(items: list[str]) -> str:
    return "[" + ", ".join(item or "x" for item in items) + "]"


def _records(kind: Any) -> Iterator[Record]:
    if isinstance(kind, Record):
        yield kind
        for key in kind.keys.values():
            yield from _records(key.kind)
    elif isinstance(kind, Table):
        yield from _records(kind.of)


@settings(max_examples=500, deadline=None)
@given(_lines())
def test_no_file_gives_anything_but_a_fleet_or_a_complaint_with_its_line(text: str) -> None:
    said = None
    try:
        parse(text, "i.yml", {})
    except ConfigError as error:
        said = error.message
    assert said is None or re.match(r"i\.yml:[1-9][0-9]*: .", said)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_good_file_with_one_slip_of_the_finger_is_a_fleet_or_a_complaint_with_its_line(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(WHOLE)))
    text = (
        WHOLE[:at] + data.draw(st.sampled_from(["", " ", "\n", "{", "}", ":", "'", "x", "-", "\t"])) + WHOLE[at + 1 :]
    )
    said = None
    try:
        parse(text, "i.yml", {})
    except ConfigError as error:
        said = error.message
    assert said is None or re.match(r"i\.yml:[1-9][0-9]*: .", said)


# -- the table itself --------------------------------------------------------------------------------------------


def test_the_sample_is_valid_and_shows_every_key() -> None:
    text = sample.inventory()
    assert len(parse(text, "i.yml", {}).groups["workers"]) == 3
    for record in _records(INVENTORY):
        for name in record.keys:
            assert re.search(rf"^\s*(# )?{name}:", text, re.MULTILINE), f"{record.what}: {name}"


def test_every_key_has_a_meaning_and_a_place_in_the_schema() -> None:
    schema = json.loads(json.dumps(json_schema(INVENTORY)))
    for record in _records(INVENTORY):
        for name, key in record.keys.items():
            assert key.doc, f"{record.what}: {name}"
    service = schema["properties"]["services"]["additionalProperties"]
    assert service["properties"]["health"]["properties"]["url"]["description"]
    assert service["additionalProperties"] is False
    assert isinstance(INVENTORY.keys["site"], Key)
    assert isinstance(SERVICE.keys["start"].kind, Many)


def test_the_shipped_inventory_is_the_runbooks_fleet_without_stores() -> None:
    known = load(Path(__file__).parents[2] / "inventory.yml", {})
    assert known.groups["workers"] == tuple(f"accounting-worker{n}.snc1" for n in (1, 2, 3))
    assert known.groups["tokumx"] == tuple(f"accounting-tokumx{n}.snc1" for n in (1, 2, 3))
    assert known.stores == {}
    assert remarks(known) == []


def test_what_is_allowed_and_probably_not_meant_is_remarked_on() -> None:
    known = fleet(
        "groups: {g: {hosts: 'a{1-2}', services: s, vip: v}}\nhosts: {a1: {services: [elsewhere]}}\n"
        "services: {s: {log: /x}, idle: {log: /y}}\nvips: {v: {min_in_service: 2}, w: {}}"
    )
    said = "\n".join(remarks(known))
    for part in (
        "elsewhere on a1 has no entry",
        "no host runs the service idle",
        "min_in_service 2 of 2",
        "behind the VIP w",
    ):
        assert part in said


def test_two_services_of_a_host_that_are_one_process_are_remarked_on() -> None:
    known = fleet(
        "groups: {g: {hosts: 'a{1-2}', services: [s, t, u]}}\n"
        "services: {s: {process: {match: Main, user: jb}}, t: {process: {match: Main, user: jb}},"
        " u: {process: {match: Main, user: other}}}"
    )
    assert remarks(known) == ["s and t on a1 are told by the same process.match: one process"]
