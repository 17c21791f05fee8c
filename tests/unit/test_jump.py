"""Jump hosts as the inventory and ssh_config write them."""

from __future__ import annotations

from bbctl.model import Fleet, Host, Ssh
from bbctl.ssh.jump import last_hop

GATE = Host(name="gate.snc1", address="10.0.0.9", ssh=Ssh(user="ops", port=2200))
HOST = Host(name="w1.snc1", address="10.0.0.1", ssh=Ssh(user="jboss", port=2222, connect_timeout=3.0))
FLEET = Fleet(source=None, site="", hosts={h.name: h for h in (GATE, HOST)}, groups={})


def test_a_hop_of_the_inventory_keeps_its_own_address_user_and_port() -> None:
    hop = last_hop(FLEET, HOST, "gate")
    assert hop is not None
    assert (hop.address, hop.ssh.user, hop.ssh.port, hop.ssh.jump) == ("10.0.0.9", "ops", 2200, None)


def test_a_hop_outside_it_takes_the_host_s_settings_and_the_usual_port() -> None:
    hop = last_hop(FLEET, HOST, "bastion.example")
    assert hop is not None
    assert (hop.address, hop.ssh.user, hop.ssh.port, hop.ssh.connect_timeout) == ("bastion.example", "jboss", 22, 3.0)


def test_user_and_port_may_be_said() -> None:
    hop = last_hop(FLEET, HOST, "root@bastion:2022")
    assert hop is not None
    assert (hop.name, hop.ssh.user, hop.ssh.port) == ("bastion", "root", 2022)


def test_of_several_hops_the_last_goes_through_those_before_it() -> None:
    hop = last_hop(FLEET, HOST, "a, b,gate")
    assert hop is not None
    assert (hop.name, hop.ssh.jump) == ("gate.snc1", "a,b")


def test_a_jump_host_for_all_is_none_for_itself() -> None:
    assert last_hop(FLEET, GATE, "gate.snc1") is None
