"""The units of docs/stub.md, as systemd reads them, and a socket that it hands over."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import dns.message
import pytest
from asking import query
from authority import Authority
from served import ENVIRONMENT, LIMIT, Served

pytestmark = pytest.mark.servers
DOCS = Path(__file__).parents[2] / "docs" / "stub.md"
EXPOSURE = 15  # of 100, where systemd calls 20 OK; it is 14, and most lines are worth 2


@pytest.fixture
def systemd(require):
    """systemd's programs, which work where systemd does not run."""
    programs = ["systemd-analyze", "systemd-socket-activate"]
    require([name for name in programs if shutil.which(name) is None])


@pytest.fixture
def units(tmp_path):
    """The units of the documentation, for a program that is there."""
    found = re.findall(
        r"```ini\n# /etc/systemd/system/(\S+)\n(.*?)```", DOCS.read_text(), re.DOTALL
    )
    for name, text in found:
        here = text.replace("/opt/resolverkit/bin/resolverkit", sys.executable)
        (tmp_path / name).write_text(here)
    return {name: tmp_path / name for name, _ in found}


def analyze(*arguments):
    done = subprocess.run(
        ["systemd-analyze", *arguments],
        capture_output=True, text=True, timeout=LIMIT, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def test_the_units_are_right(systemd, units):
    assert set(units) == {"resolverkit.service", "resolverkit.socket"}
    assert analyze("verify", *units.values()) == (0, "")


def test_the_service_is_in_a_sandbox(systemd, units):
    security = ("security", "--offline=true", f"--threshold={EXPOSURE}")
    status, told = analyze(*security, units["resolverkit.service"])
    assert status == 0, told


def test_a_socket_of_systemd(systemd):
    """As `ListenDatagram=`: the first query starts the service, which answers it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    activate = [
        "systemd-socket-activate", "--datagram", f"--listen=127.0.0.1:{port}",
        f"--setenv=PYTHONPATH={ENVIRONMENT['PYTHONPATH']}",
    ]  # fmt: skip
    with Authority() as authority, socket.socket(type=socket.SOCK_DGRAM) as sock:
        service = Served("-u", authority.url, prefix=activate)
        service.logged("Listening on")
        sock.settimeout(LIMIT)
        sock.connect(("127.0.0.1", port))
        sock.send(query("www.example.com").to_wire())
        with service:
            assert service.ports == [port]
            reply = dns.message.from_wire(sock.recv(4096))
            assert reply.answer[0][0].address == "192.0.2.1"
            assert service.end() == 0
