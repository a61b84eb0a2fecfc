"""errors: existing `except` clauses work, and every error says what was tried."""

from __future__ import annotations

import asyncio
import copy
import pickle

import dns.exception
import dns.message
import dns.resolver
import pytest

from resolverkit import errors
from resolverkit.model import AnswerPath, Attempt, Endpoint, Outcome, Source

ATTEMPT = Attempt(
    Endpoint("udp://192.0.2.1"),
    0.0,
    0.012,
    Outcome.FAILURE,
    2,
    ((22, "none"),),
    "SERVFAIL",
)
PATH = AnswerPath(Source.UPSTREAM, None, (ATTEMPT,), detail="all failed")
QUERY = dns.message.make_query("a.example.", "A")
RESPONSE = dns.message.make_response(QUERY)


def pickled(error):
    return pickle.loads(pickle.dumps(error))  # noqa: S301 - our own


LIKE_DNSPYTHON = [
    (
        errors.NXDOMAIN,
        dns.resolver.NXDOMAIN,
        {"qnames": [QUERY.question[0].name],
         "responses": {QUERY.question[0].name: RESPONSE}},
    ),
    (errors.NoAnswer, dns.resolver.NoAnswer, {"response": RESPONSE}),
    (errors.YXDOMAIN, dns.resolver.YXDOMAIN, {}),
    (
        errors.NoNameservers,
        dns.resolver.NoNameservers,
        {"request": QUERY, "errors": [("192.0.2.1", False, 53, "SERVFAIL", RESPONSE)]},
    ),
    (
        errors.LifetimeTimeout,
        dns.resolver.LifetimeTimeout,
        {"timeout": 5.0, "errors": [("192.0.2.1", False, 53, "SERVFAIL", RESPONSE)]},
    ),
]  # fmt: skip


@pytest.mark.parametrize(("ours", "theirs", "options"), LIKE_DNSPYTHON)
def test_dnspython_s_exceptions_with_a_path(ours, theirs, options):
    error = ours(PATH, **options)
    assert isinstance(error, theirs)
    assert isinstance(error, dns.exception.DNSException)
    assert ours.__name__ == theirs.__name__
    assert error.path is PATH
    assert str(error) == str(theirs(**options))
    assert error.kwargs == theirs(**options).kwargs
    with pytest.raises(theirs):
        raise error


def test_a_lifetime_that_ends_is_dnspython_s_timeout():
    assert issubclass(errors.LifetimeTimeout, dns.exception.Timeout)
    assert issubclass(errors.LifetimeTimeout, dns.resolver.Timeout)


def test_nxdomain_can_do_what_dnspython_s_can():
    options = LIKE_DNSPYTHON[0][2]
    error = errors.NXDOMAIN(PATH, **options)
    assert error.qnames() == options["qnames"]
    assert error.canonical_name == QUERY.question[0].name


@pytest.mark.parametrize(("ours", "theirs", "options"), LIKE_DNSPYTHON)
def test_they_travel(ours, theirs, options):
    error = ours(PATH, **options)
    for again in (pickled(error), copy.copy(error)):
        assert type(again) is ours
        assert str(again) == str(error)
        assert str(again.path) == str(PATH)


OWN = [
    errors.ResolverKitError("x"),
    errors.ConfigurationError("x"),
    errors.UpstreamError("x", [ATTEMPT]),
    errors.QueryTimeout("x", [ATTEMPT]),
    errors.NetworkError("x", [ATTEMPT], local=True),
    errors.BadReply("x", [ATTEMPT]),
    errors.ServerFailure(5, ((18, "not you"),), [ATTEMPT]),
    errors.ServerFailure(2, message="x"),
]


@pytest.mark.parametrize("error", OWN, ids=repr)
def test_own_errors_have_one_root_and_travel(error):
    assert isinstance(error, errors.ResolverKitError)
    for again in (pickled(error), copy.deepcopy(error)):
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert [str(a) for a in getattr(again, "attempts", ())] == [
            str(a) for a in getattr(error, "attempts", ())
        ]
        for attr in ("local", "rcode", "ede"):
            assert getattr(again, attr, None) == getattr(error, attr, None)


def test_what_an_upstream_raises_is_an_upstream_error():
    for kind in ("QueryTimeout", "NetworkError", "BadReply", "ServerFailure"):
        assert issubclass(getattr(errors, kind), errors.UpstreamError)
    assert errors.UpstreamError("x").attempts == ()
    assert errors.UpstreamError("x", [ATTEMPT]).attempts == (ATTEMPT,)
    assert not errors.NetworkError("x").local


def test_ours_are_no_dnspython_or_asyncio_errors_by_accident():
    for error in OWN:
        assert not isinstance(error, (dns.exception.DNSException, asyncio.TimeoutError))
    assert isinstance(OWN[1], ValueError)


@pytest.mark.parametrize(
    ("rcode", "text"),
    [(2, "SERVFAIL"), (5, "REFUSED"), (16, "BADVERS"), (99, "99")],
)
def test_a_server_failure_says_which(rcode, text):
    assert str(errors.ServerFailure(rcode)) == text
    assert errors.ServerFailure(rcode).rcode == rcode


def test_the_tree_in_the_docstring_is_the_tree():
    for name in errors.__all__ if hasattr(errors, "__all__") else dir(errors):
        value = getattr(errors, name)
        if isinstance(value, type) and value.__module__ == errors.__name__:
            assert name.startswith("_") or name in errors.__doc__
