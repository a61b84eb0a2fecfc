"""What it takes to test code against DNS outages, without waiting for one."""

from __future__ import annotations

from resolverkit.testing.authority import Authority
from resolverkit.testing.faults import Fault
from resolverkit.testing.lab import Lab
from resolverkit.testing.scripted import ScriptedUpstream
from resolverkit.testing.steps import (
    Step,
    answer,
    bad_reply,
    lost,
    network_error,
    nodata,
    nxdomain,
    rcode,
    refused,
    servfail,
    silent,
    wire,
)
from resolverkit.testing.time import VirtualLoop, run
from resolverkit.testing.upstreams import LabUpstream

__all__ = [
    "Authority",
    "Fault",
    "Lab",
    "LabUpstream",
    "ScriptedUpstream",
    "Step",
    "VirtualLoop",
    "answer",
    "bad_reply",
    "lost",
    "network_error",
    "nodata",
    "nxdomain",
    "rcode",
    "refused",
    "run",
    "servfail",
    "silent",
    "wire",
]
