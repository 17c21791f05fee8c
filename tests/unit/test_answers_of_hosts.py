"""Answers as they were recorded, understood: HAProxy, df, HTTP, thread dumps; and secrets that are masked."""

from __future__ import annotations

import json

import pytest

from bbctl import dumps, health
from bbctl.model import Health, Host, Ssh
from bbctl.redact import mask
from bbctl.remote import http, lease, machine, sections, vip

STATES = """1
# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight srv_time_since_last_change
3 backbeat 1 w1.snc1 10.0.0.1 2 0 1 1 10
3 backbeat 2 w2.snc1 10.0.0.2 2 8 1 1 10
3 backbeat 3 w3.snc1 10.0.0.3 0 0 1 1 10
3 backbeat 4 w4.snc1 10.0.0.4 0 1 1 1 10

# pxname,svname,qcur,qmax,scur,smax
f,FRONTEND,,,9,9
backbeat,w1.snc1,0,0,4,9
backbeat,w2.snc1,0,0,2,9
"""


@pytest.mark.parametrize(
    ("server", "state", "serving", "sessions"),
    [
        ("w1.snc1", "in", True, 4),
        ("w2.snc1", "out", False, 2),
        ("w3.snc1", "in", False, None),
        ("w4.snc1", "out", False, None),
    ],
)
def test_haproxy_says_who_is_in_who_serves_and_how_many_sessions_are_left(
    server: str, state: str, serving: bool, sessions: int | None
) -> None:
    place = vip.place_of(STATES, "backbeat", server)
    assert (place.state, place.serving, place.sessions) == (state, serving, sessions)


@pytest.mark.parametrize("answer", ["", "Permission denied\n", "Unknown command.\n", "1\n# be_id be_name\n", "\0\xff"])
def test_an_answer_of_haproxy_s_that_is_no_table_is_unknown_with_its_words(answer: str) -> None:
    place = vip.place_of(answer, "backbeat", "w1.snc1")
    assert place.state == "unknown"
    assert place.error


def test_haproxy_answers_a_change_with_nothing_and_an_error_with_text() -> None:
    assert vip.understand_set("\n") is None
    assert vip.understand_set("No such server.\n\n") == "No such server."
    with pytest.raises(ValueError, match="no name"):
        vip.haproxy_set("backbeat", "a;disable frontend f", "drain")


def test_a_socket_that_says_nothing_is_told_from_one_that_is_not_there() -> None:
    with pytest.raises(ValueError, match="within 5 s"):
        vip.understand_asked(b"\nasked 124\n", b"")
    with pytest.raises(ValueError, match="No such file"):
        vip.understand_asked(b"\nasked 2\n", b"x\nNo such file or directory\n")


def test_a_state_command_says_in_or_out_and_nothing_else_counts() -> None:
    assert vip.understand_command(0, b"Out\n", b"").state == "out"
    for exit_, out in ((1, b"in\n"), (0, b"maybe\n"), (None, b"in\n")):
        assert vip.understand_command(exit_, out, b"").state == "unknown"


def test_the_machine_s_disks_are_read_by_path_also_with_blanks_in_device_and_mount() -> None:
    text = (
        "now 1700000000000000000\nzone +0100\nkernel 6.1.0-13-amd64\ntool perl\nload 0.30\ncores 4\n"
        "MemTotal: 1000 kB\nMemFree: 1 kB\nMemAvailable: 250 kB\n"
        "path /var/log\n/dev/mapper/vg data 1000 900 100 90% /var/my disk\n/dev/mapper/vg data 100 100 0 100% /var/my disk\n"
        "path /net\n"
    )
    box = machine.understand(text.encode())
    assert (box.now, box.zone, box.load, box.cores, box.memory_free, box.pidfd) == (
        1.7e9,
        "+0100",
        0.3,
        4,
        0.25,
        "perl",
    )
    disk = box.disks["/var/log"]
    assert (disk.mount, disk.free, disk.inodes, disk.used) == ("/var/my disk", 100 * 1024, 0, 1.0)
    assert "/net" not in box.disks


@pytest.mark.parametrize(
    ("kernel", "tools", "can"), [("4.19.0", ["perl"], "none"), ("5.4.1", ["python3"], "python3"), ("6.1", [], "none")]
)
def test_a_pidfd_needs_the_kernel_and_something_to_call_it_with(kernel: str, tools: list[str], can: str) -> None:
    text = "now 1\n" + f"kernel {kernel}\n" + "".join(f"tool {t}\n" for t in tools)
    assert machine.understand(text.encode()).pidfd == can


def test_answers_are_found_between_their_markers_and_a_cut_one_is_left_out() -> None:
    said = sections.apart(b"noise\nm-1 a\nfirst\nm-1 b\nm-2 c\nsecond\nm-1 .\n", marker="m-1")
    assert said == {"a": b"first", "b": b"m-2 c\nsecond"}
    assert sections.apart(b"\nm-1 a\nfir", marker="m-1") == {}


HOST = Host(name="w2.snc1", address="10.0.0.2", ssh=Ssh(user="x"), aliases=("w2",))
GOOD = Health(url="http://x/", expect='"status": *"OK"')


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        (b'HTTP/1.1 200 OK\r\nX: y\r\n\r\n{"status":  "OK"}', "ok"),
        (b'HTTP/1.1 204 No\r\n\r\n{"status": "ok"}', "ok"),
        (b'HTTP/1.1 503 No\r\n\r\n{"status": "OK"}', "failing"),
        (b'HTTP/1.1 200 OK\r\n\r\n{"status": "DOWN"}', "failing"),
        (b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"sta\r\nb\r\ntus": "OK"}\r\n0\r\n\r\n', "ok"),
        (b"", "failing"),
        (b"SSH-2.0-OpenSSH\r\n", "failing"),
    ],
)
def test_healthy_is_a_2xx_with_what_is_expected_in_the_body(answer: bytes, state: str) -> None:
    assert health.judge(http.understand(answer), GOOD, HOST).state == state


def test_answers_of_two_hosts_that_differ_in_name_and_numbers_only_are_the_same() -> None:
    other = Host(name="w3.snc1", address="10.0.0.3", ssh=Ssh(user="x"))
    first = health.normal('503 {"host": "w2.snc1", "at": 17:03, "mongo": "no primary"}', HOST)
    assert first == health.normal('503 {"host": "w3.snc1", "at": 17:04, "mongo": "no primary"}', other)
    assert first != health.normal('500 {"host": "w3.snc1", "at": 17:04, "mongo": "no primary"}', other)


RING = """Full thread dump OpenJDK
"hornetq-1" #9 prio=5 tid=0x1 nid=0x2 waiting for monitor entry
\t- waiting to lock <0xbb> (a org.h.Server)
\t- locked <0xaa> (a org.h.Session)

"Thread-9" #12 prio=5 tid=0x3 nid=0x4 waiting for monitor entry
\t- waiting to lock <0xaa> (a org.h.Session)
\t- locked <0xbb> (a org.h.Server)

"idle" #1 prio=5 tid=0x5 nid=0x6 in Object.wait()
\t- waiting to lock <0xcc> (a x.Y)

JNI global references: 1
"""
NAMED = (
    RING
    + """
Found one Java-level deadlock:
=============================
"hornetq-1":
  waiting to lock monitor 0x1 (object 0xbb, a org.h.Server),
  which is held by "Thread-9"
"Thread-9":
  waiting to lock monitor 0x2 (object 0xaa, a org.h.Session),
  which is held by "hornetq-1"

Java stack information for the threads listed above:
"""
)


@pytest.mark.parametrize("text", [RING, NAMED, NAMED + RING])
def test_a_deadlock_is_found_once_whether_the_jvm_names_it_or_the_stacks_show_it(text: str) -> None:
    (ring,) = dumps.deadlocks(text)
    assert set(ring.threads) == {"hornetq-1", "Thread-9"}
    assert ring.waits["hornetq-1"] == "org.h.Server"


def test_threads_that_merely_wait_are_no_deadlock() -> None:
    assert dumps.deadlocks(RING.replace("locked <0xbb>", "locked <0xdd>")) == []
    assert dumps.deadlocks("") == []


@pytest.mark.parametrize(
    "text",
    [
        "mongodb://app:CANARY@h1,h2/db", "redis://:CANARY@h:6379/0", '{"authToken": "CANARY"}', "password=CANARY",
        "-Dkeystore.password=CANARY -Xmx2g", "Authorization: Bearer CANARY1234567890", "api_key: 'CANARY'", "--token CANARY",
        'db.passwd = "CANARY with blanks"', "routing_key: CANARY", "PGPASSWORD=CANARY psql",
        "-----BEGIN RSA PRIVATE KEY-----\nCANARY\n-----END RSA PRIVATE KEY-----",
        '{"password"=>"CANARY", "authToken" => "CANARY"}',
        "{'password': 'CANARY'}",
        r'{\"token\":\"CANARY\"}',
        "MYSQL_PWD=CANARY DB_PASS='CANARY' db.pass=CANARY --pass CANARY",
        "<password>CANARY</password>",
        '<db-password type="plain">CANARY</db-password>',
        "curl -u bob:CANARY http://h/",
        "sshpass -p CANARY ssh h",
        "jwt eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.CANARY",
    ],
)  # fmt: skip
def test_passwords_and_tokens_never_leave_in_a_bundle(text: str) -> None:
    assert "CANARY" not in mask(f"before {text} after")


def test_what_is_json_stays_json_when_its_secrets_are_masked() -> None:
    said = {"token": 3, "log": ['{"password":"x"}', "pwd='a b' and", "secret=a\nnext", 'api_key="b" c'], "passed": 12}
    masked = json.loads(mask(json.dumps(said)))
    assert masked["log"] == ['{"password":"***"}', "pwd='***' and", "secret=***\nnext", 'api_key="***" c']
    assert (masked["token"], masked["passed"]) == ("***", 12)


def test_what_is_no_secret_stays_readable() -> None:
    text = "2026-11-24 03:02:58 INFO Stopping HornetQ http://10.0.0.1:8080/health status 503 user=ann"
    assert mask(text) == text


@pytest.mark.parametrize(
    ("since", "until", "ends"),
    [
        ("100", "200", 200.0),
        ("100", "302400000000", None),
        ("100", "inf", None),
        ("100", "1e300", None),
        ("100", "-", None),
    ],
)
def test_a_lease_ends_or_has_no_end_and_can_always_be_told(since: str, until: str, ends: float | None) -> None:
    said = f"operator ann\nrun r-1\nreason dump\nsince {since}\nuntil {until}\n".encode()
    found = lease.understand(said, now=150.0)
    assert found is not None
    assert found.until == ends
    assert lease.words(found).startswith("ann (r-1)")


@pytest.mark.parametrize(("written", "reason"), [("-", ""), ("-9 was sent", "-9 was sent"), ("heap%22", 'heap"')])
def test_a_lease_without_a_reason_gives_none(written: str, reason: str) -> None:
    found = lease.understand(f"operator ann\nrun r-1\nreason {written}\nsince 100\nuntil -\n".encode(), now=150.0)
    assert found is not None
    assert found.reason == reason


@pytest.mark.parametrize(
    ("since", "until"), [("nan", "-"), ("inf", "-"), ("100", "nan"), ("-1", "-"), ("x", "-"), ("1", "-5")]
)
def test_a_damaged_lease_is_none(since: str, until: str) -> None:
    said = f"operator ann\nrun r-1\nreason dump\nsince {since}\nuntil {until}\n".encode()
    assert lease.understand(said, now=150.0) is None
