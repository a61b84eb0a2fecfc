"""The hosts file: how it is read, and when."""

from __future__ import annotations

from ipaddress import ip_address

from hypothesis import given
from hypothesis import strategies as st

from resolverkit.hosts import HostsFile, parse

TEXT = """
127.0.0.1\tlocalhost   # me
::1 localhost ip6-localhost
192.0.2.1 one.example.com One one
192.0.2.2 one.example.com uno
2001:db8::1 one.example.com
# 192.0.2.3 commented
nonsense here
192.0.2.4
fe80::1%3 scoped
::1 only6
"""


def texts(addresses):
    return [str(address) for address in addresses]


def test_lines_of_one_name_add_up():
    one = parse(TEXT.splitlines())["one.example.com"]
    assert one.name == "one.example.com"
    assert texts(one.addresses) == ["192.0.2.1", "192.0.2.2", "2001:db8::1"]
    assert texts(one.of(4)) == ["192.0.2.1", "192.0.2.2"]
    assert texts(one.of(6)) == ["2001:db8::1"]
    assert one.aliases == ["One", "one", "uno"]


def test_aliases_and_scopes():
    hosts = parse(TEXT.splitlines())
    assert hosts["uno"].name == "one.example.com"
    assert texts(hosts["one"].addresses) == ["192.0.2.1"]
    assert hosts["scoped"].addresses == [ip_address("fe80::1%3")]
    assert "commented" not in hosts
    assert "here" not in hosts


def test_the_loopback_address_stands_for_both_families_as_in_glibc():
    hosts = parse(TEXT.splitlines())
    assert texts(hosts["only6"].of(4)) == []
    assert texts(hosts["only6"].of(4, alone=True)) == ["127.0.0.1"]


def test_it_is_read_again_when_it_has_changed(tmp_path):
    path = tmp_path / "hosts"
    hosts = HostsFile(path)
    assert hosts.find("a") is None
    path.write_text("192.0.2.1 a\n")
    assert texts(hosts.find("A").addresses) == ["192.0.2.1"]
    assert hosts.find("a") is hosts.find("a")  # and not otherwise
    path.write_text("192.0.2.22 a\n")
    assert texts(hosts.find("a").addresses) == ["192.0.2.22"]
    path.unlink()
    assert hosts.find("a") is None


@given(st.lists(st.text()))
def test_any_text_can_be_read(lines):
    parse(lines)


def test_a_line_may_have_thousands_of_names():
    names = [f"n{number}.example" for number in range(20_000)]
    hosts = parse(["192.0.2.1 " + " ".join(names)])
    assert list(hosts) == names
    assert hosts["n7.example"].aliases == names[1:]
