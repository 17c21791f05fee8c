"""What the stand-in JBoss writes: its log lines and its thread dumps, as a JVM would. Pure."""

from __future__ import annotations

from datetime import UTC, datetime

VERSION = 'JBoss AS 7.1.1.Final "Brontes"'
STARTING = ("org.jboss.modules", f"{VERSION} starting")
STOPPING_WEB = ("org.apache.coyote.http11.Http11Protocol", "Pausing Coyote HTTP/1.1")
STOPPING_QUEUE = ("org.hornetq.core.server.impl.HornetQServerImpl", "Stopping HornetQ")
OUT_OF_MEMORY = (
    "java.lang.OutOfMemoryError: Java heap space\n"
    "\tat java.util.Arrays.copyOf(Arrays.java:2271)\n"
    "\tat com.groupon.accounting.VatLedger.append(VatLedger.java:118)"
)

_QUEUE_THREAD = '"hornetq-1" prio=10 tid=0x00007f3c4c0a1000 nid=0x4f21 waiting for monitor entry [0x00007f3c2d5f4000]'
_OTHER_THREAD = '"Thread-9" prio=10 tid=0x00007f3c4c0b2800 nid=0x4f22 waiting for monitor entry [0x00007f3c2d4f3000]'
_STACKS = f"""\
{_QUEUE_THREAD}
   java.lang.Thread.State: BLOCKED (on object monitor)
\tat org.hornetq.core.server.impl.QueueImpl.close(QueueImpl.java:412)
\t- waiting to lock <0x00000000e1a3f2c8> (a org.hornetq.core.server.impl.QueueImpl)
\tat org.hornetq.core.server.impl.HornetQServerImpl.stop(HornetQServerImpl.java:511)
\t- locked <0x00000000e1a3f1b0> (a org.hornetq.core.server.impl.HornetQServerImpl)

{_OTHER_THREAD}
   java.lang.Thread.State: BLOCKED (on object monitor)
\tat org.hornetq.core.server.impl.HornetQServerImpl.isStarted(HornetQServerImpl.java:640)
\t- waiting to lock <0x00000000e1a3f1b0> (a org.hornetq.core.server.impl.HornetQServerImpl)
\tat org.hornetq.core.server.impl.QueueImpl.deliver(QueueImpl.java:1288)
\t- locked <0x00000000e1a3f2c8> (a org.hornetq.core.server.impl.QueueImpl)
"""
_DEADLOCK = f"""\

Found one Java-level deadlock:
=============================
"hornetq-1":
  waiting to lock monitor 0x00007f3c1400a5f8 (object 0x00000000e1a3f2c8, a org.hornetq.core.server.impl.QueueImpl),
  which is held by "Thread-9"
"Thread-9":
  waiting to lock monitor 0x00007f3c1400a6a8 (object 0x00000000e1a3f1b0, a org.hornetq.core.server.impl.HornetQServerImpl),
  which is held by "hornetq-1"

Java stack information for the threads listed above:
===================================================
{_STACKS}
Found 1 deadlock.
"""


def line(now: float, level: str, logger: str, text: str) -> str:
    """One line of server.log, in UTC, newline included."""
    at = datetime.fromtimestamp(now, UTC)
    return f"{at:%Y-%m-%d %H:%M:%S},{at.microsecond // 1000:03d} {level:<5} [{logger}] {text}\n"


def started(seconds: float) -> str:
    return f"{VERSION} Started in {seconds * 1000:.0f}ms - Started 148 of 224 services"


def stopped(seconds: float) -> str:
    return f"{VERSION} stopped in {seconds * 1000:.0f}ms"


def dump(now: float, *, deadlock: bool) -> str:
    """A thread dump as SIGQUIT brings one, with a deadlock in it while the stand-in hangs."""
    at = datetime.fromtimestamp(now, UTC)
    main = (
        '"main" prio=10 tid=0x00007f3c4c008000 nid=0x4f01 in Object.wait() [0x00007f3c53b2e000]\n'
        "   java.lang.Thread.State: WAITING (on object monitor)\n"
        "\tat java.lang.Object.wait(Native Method)\n"
        "\tat org.jboss.Main.main(Main.java:217)\n\n"
    )
    queue = _STACKS if deadlock else ""
    vm = '"VM Thread" prio=10 tid=0x00007f3c4c06c800 nid=0x4f08 runnable\n\nJNI global references: 243\n'
    head = f"{at:%Y-%m-%d %H:%M:%S}\nFull thread dump OpenJDK 64-Bit Server VM (24.95-b01 mixed mode):\n\n"
    return head + main + queue + vm + (_DEADLOCK if deadlock else "") + "\n"
