"""policy: what concludes, which error is told, how long failures last."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolverkit import policy
from resolverkit.errors import (
    BadReply,
    ConfigurationError,
    NetworkError,
    QueryTimeout,
    ServerFailure,
    UpstreamError,
)
from resolverkit.model import Attempt, Endpoint, Kind, Outcome, Reply
from resolverkit.policy import StalePolicy, Verdict

PLAIN = Endpoint("udp://192.0.2.1")
FILTER = Endpoint("udp://192.0.2.2", filtering=True)
QUAD9 = Endpoint("udp://9.9.9.9", filtering=True, unsigned_block=True)
SIGNED = Endpoint("udp://192.0.2.3", unsigned_block=True)

CONCLUSIVE, WEAK, BLOCKED = Verdict.CONCLUSIVE, Verdict.WEAK, Verdict.BLOCKED


def reply(kind=Kind.DATA, *, soa=False, ra=True, ede=()):
    rcode = {Kind.NXDOMAIN: 3, Kind.YXDOMAIN: 6}.get(kind, 0)
    codes = tuple((code, "") for code in ede)
    return Reply(b"", kind, rcode, 60, b"\0", soa=soa, ra=ra, ede=codes)


DATA = reply()
NODATA, NXDOMAIN = reply(Kind.NODATA, soa=True), reply(Kind.NXDOMAIN, soa=True)
LAME_NODATA, LAME_NXDOMAIN = reply(Kind.NODATA), reply(Kind.NXDOMAIN)
SIGNATURE = reply(Kind.NXDOMAIN, ra=False)


@pytest.mark.parametrize(
    ("given_", "endpoint", "accepted", "moved_on"),
    [
        (DATA, PLAIN, CONCLUSIVE, CONCLUSIVE),
        (DATA, None, CONCLUSIVE, CONCLUSIVE),
        (NODATA, PLAIN, CONCLUSIVE, CONCLUSIVE),
        (NXDOMAIN, PLAIN, CONCLUSIVE, CONCLUSIVE),
        (reply(Kind.YXDOMAIN), PLAIN, CONCLUSIVE, CONCLUSIVE),
        (LAME_NODATA, PLAIN, WEAK, WEAK),
        (LAME_NXDOMAIN, PLAIN, WEAK, WEAK),
        (LAME_NXDOMAIN, None, WEAK, WEAK),
        (LAME_NXDOMAIN, FILTER, WEAK, WEAK),
        # Quad9's signature: NXDOMAIN without SOA and RA. Only from who is known for it.
        (SIGNATURE, QUAD9, CONCLUSIVE, BLOCKED),
        (SIGNATURE, SIGNED, BLOCKED, BLOCKED),
        (SIGNATURE, FILTER, WEAK, WEAK),
        (SIGNATURE, PLAIN, WEAK, WEAK),
        (SIGNATURE, None, WEAK, WEAK),
        (LAME_NXDOMAIN, QUAD9, WEAK, WEAK),  # RA is set
        (reply(Kind.NODATA, ra=False), QUAD9, WEAK, WEAK),
        (reply(Kind.NXDOMAIN, soa=True, ra=False), QUAD9, CONCLUSIVE, CONCLUSIVE),
    ],
)
def test_verdict(given_, endpoint, accepted, moved_on):
    assert policy.verdict(given_, endpoint) is accepted
    assert policy.verdict(given_, endpoint, on_block="next") is moved_on


@pytest.mark.parametrize("code", [15, 16, 17, 18])
@pytest.mark.parametrize("kind", [Kind.DATA, Kind.NODATA, Kind.NXDOMAIN])
@pytest.mark.parametrize("soa", [True, False])
def test_ede_15_to_18_is_a_block_which_counts_from_a_chosen_filter_alone(
    code, kind, soa
):
    blocked = reply(kind, soa=soa, ede=[3, code])
    assert policy.verdict(blocked, FILTER) is CONCLUSIVE
    assert policy.verdict(blocked, FILTER, on_block="next") is BLOCKED
    assert policy.verdict(blocked, PLAIN) is BLOCKED
    assert policy.verdict(blocked, None) is BLOCKED


@given(st.sets(st.integers(0, 65_535).filter(lambda n: not 15 <= n <= 18)))
def test_no_other_ede_changes_a_verdict(codes):
    """RFC 8914 section 3; 1.1.1.1 has sent 22 for a bogus name."""
    for kind, soa, end in itertools.product(Kind, (False, True), (PLAIN, QUAD9, None)):
        with_ede = policy.verdict(reply(kind, soa=soa, ede=codes), end)
        assert with_ede is policy.verdict(reply(kind, soa=soa), end)


@pytest.mark.parametrize("code", range(30))
def test_ede_5_to_12_is_bogus(code):
    attempts = [
        Attempt(PLAIN, 0, 0, Outcome.DATA),
        Attempt(PLAIN, 0, 0, Outcome.FAILURE, 2, ((22, ""), (code, ""))),
    ]
    assert policy.is_bogus(attempts) is (5 <= code <= 12)
    assert not policy.is_bogus([])


# --- errors --------------------------------------------------------------------------

RANKED = [  # the least useful first
    NetworkError("no route", local=True),
    UpstreamError("?"),
    QueryTimeout("timeout"),
    NetworkError("refused"),
    BadReply("bad"),
    ServerFailure(2),
    ServerFailure(2, ((22, "no reachable authority"),)),
]


@pytest.mark.parametrize(
    ("less", "more"), list(itertools.combinations(RANKED, 2)), ids=repr
)
def test_most_useful_is_the_server_s_own_word(less, more):
    assert policy.most_useful([less, more]) is more
    assert policy.most_useful([more, less]) is more
    assert policy.most_useful([less]) is less


def test_of_equals_the_first_is_told():
    first, second = ServerFailure(2), ServerFailure(5)
    assert policy.most_useful([QueryTimeout(""), first, second]) is first


# --- failures and stale --------------------------------------------------------------


def test_failures_are_cached_for_5_s_doubling_to_30_s():
    """RFC 9520 section 3.2."""
    ttl, found = 0.0, []
    for _ in range(6):
        ttl = policy.failure_ttl(ttl, stale=False)
        found.append(ttl)
    assert found == [5, 10, 20, 30, 30, 30]


@given(st.floats(0, 1e6))
def test_with_stale_data_at_hand_it_is_30_s(previous):
    """RFC 8767 section 5: the failure recheck timer."""
    assert policy.failure_ttl(previous, stale=True) == 30
    assert 5 <= policy.failure_ttl(previous, stale=False) <= 30


def test_the_timers_are_those_of_the_rfcs():
    default = StalePolicy()
    assert default.wait == 1.8
    assert default.ttl == 30
    assert default.max_stale == 86_400
    assert policy.RESOLUTION_DEADLINE == 10
    assert policy.FAILURE_RECHECK == 30
    assert policy.FAILURE_RECHECK <= 300  # RFC 8767 section 6: at most 5 min
    assert policy.NO_STALE.max_stale == 0


@pytest.mark.parametrize(
    "options",
    [
        {"max_stale": 0}, {"max_stale": 604_800}, {"wait": 0}, {"wait": 10},
        {"ttl": 1}, {"ttl": 30}, {"max_stale": 0.5, "wait": 0.5},
    ],
)  # fmt: skip
def test_stale_policy_takes(options):
    made = StalePolicy(**options)
    assert {name: getattr(made, name) for name in options} == options
    assert made == StalePolicy(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_stale": -1}, "max_stale=-1: allowed are 0 to 604800 seconds"),
        ({"max_stale": 604_801}, "max_stale=604801: allowed are 0 to 604800 seconds"),
        ({"max_stale": float("nan")}, "max_stale=nan: allowed are 0 to 604800 seconds"),
        ({"wait": -0.5}, "wait=-0.5: allowed are 0 to 10 seconds"),
        ({"wait": 10.5}, "wait=10.5: allowed are 0 to 10 seconds"),
        ({"ttl": 0}, "ttl=0: allowed are 1 to 30 seconds"),  # RFC 8767 section 4: > 0
        ({"ttl": 31}, "ttl=31: allowed are 1 to 30 seconds"),
    ],
)
def test_stale_policy_refuses(options, message):
    with pytest.raises(ConfigurationError) as caught:
        StalePolicy(**options)
    assert str(caught.value) == message


def test_stale_policy_cannot_be_changed():
    with pytest.raises(AttributeError):
        StalePolicy().ttl = 3
