"""What the kernel says of this machine's addresses, as Linux writes it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from ipaddress import ip_address
from pathlib import Path

import pytest

from resolverkit import interfaces
from resolverkit.addresses import Traits

TABLE = """\
00000000000000000000000000000001 01 80 10 80       lo
20010db8000500000000000000000002 02 40 00 a2     eth0
20010db8000600000000000000000002 02 40 00 90     eth0
20010db8000700000000000000000002 03 40 00 80     tun6
fe800000000000000000000000000001 02 40 20 80     eth0
"""


@pytest.fixture
def table(monkeypatch, tmp_path):
    path = tmp_path / "if_inet6"
    monkeypatch.setattr(interfaces, "IF_INET6", path)
    monkeypatch.setattr(interfaces, "_kept", (float("-inf"), {}))
    return path


def test_flags_and_tunnels_are_read(table, monkeypatch):
    table.write_text(TABLE)
    asked = []

    def is_tunnel(name):
        asked.append(name)
        return name == "tun6"

    monkeypatch.setattr(interfaces, "_is_tunnel", is_tunnel)
    assert interfaces.traits() == {
        ip_address("::1"): Traits(),
        ip_address("2001:db8:5::2"): Traits(deprecated=True),
        ip_address("2001:db8:6::2"): Traits(home=True),
        ip_address("2001:db8:7::2"): Traits(native=False),
        ip_address("fe80::1"): Traits(),
    }
    assert asked == ["lo", "eth0", "tun6"]  # each once


def test_it_is_read_anew_after_a_second(table, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(interfaces.time, "monotonic", lambda: now[0])
    table.write_text(TABLE)
    assert len(interfaces.traits()) == 5
    table.write_text(TABLE.partition("\n")[2])
    now[0] += 0.9
    assert len(interfaces.traits()) == 5
    now[0] += 0.2
    assert len(interfaces.traits()) == 4


def test_other_systems_do_not_tell(table):
    assert interfaces.traits() == {}


linux = pytest.mark.skipif(sys.platform != "linux", reason="as on Linux")


@linux
def test_the_loopback_interface_is_no_tunnel():
    assert not interfaces._is_tunnel("lo")
    assert not interfaces._is_tunnel("nosuch")


@linux
@pytest.mark.parametrize("kind", sorted(interfaces._TUNNELS))
def test_tunnels_go_by_the_type_of_their_hardware(kind, monkeypatch):
    import fcntl

    def ioctl(_, request, name):
        assert (request, name[:5]) == (0x8927, b"tun6\0")
        return name[:16] + kind.to_bytes(2, sys.byteorder) + name[18:]

    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    assert interfaces._is_tunnel("tun6")


@linux
def test_what_this_kernel_says_can_be_read():
    """A deprecated address in a namespace, in the kernel's own words."""
    commands = "ip link set lo up && ip addr add 2001:db8:5::2/64 dev lo nodad"
    program = "from resolverkit.interfaces import traits; print(traits())"
    if not shutil.which("unshare") or os.geteuid() != 0:
        pytest.skip("needs the right to make namespaces")
    done = subprocess.run(
        ["unshare", "-n", "sh", "-c",
         f"{commands} preferred_lft 0 && exec {sys.executable} -c '{program}'"],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1],
    )  # fmt: skip
    assert "IPv6Address('2001:db8:5::2'): Traits(deprecated=True" in done.stdout
    assert "IPv6Address('::1'): Traits(deprecated=False" in done.stdout
