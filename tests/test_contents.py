"""`resolver.store`: what is kept, in the hands of its user."""

import io
import json

import pytest
from stored import FakeStore
from virtual import WWW, at, call, resolver, upstreams

from resolverkit import ConfigurationError, StalePolicy, StoreError
from resolverkit.testing import VirtualLoop, answer, nxdomain, run, servfail

GOOD = answer("192.0.2.1", "2001:db8::1", ttl=60)
NAMES = (WWW, "mail.example.com", "example.com", "www.example.net")
ALL = {*(f"{name}." for name in NAMES), "no.example.com."}


@pytest.fixture(autouse=True)
def _dates(monkeypatch):
    """Wall time goes with virtual time."""
    date = lambda: 1e9 + VirtualLoop.running().time()  # noqa: E731
    monkeypatch.setattr("resolverkit.contents.time.time", date)


async def filled(**options):
    """A Resolver that knows four names and one that does not exist."""
    (a,) = upstreams({"no.example.com": [nxdomain()], "*": [GOOD]}, operators="Z")
    r = resolver(a, **options)
    for name in (*NAMES, "no.example.com"):
        await call(r, name)
    return r


def test_it_can_be_looked_into():
    async def main():
        r = await filled()
        await at(100)
        await call(r, "mail.example.com")
        await call(r, "no.example.com")
        return list(r.store), len(r.store), r.store.get(WWW), r.store.get("nobody.")

    kept, count, www, nobody = run(main)
    states = {(k.name, k.rdtype, k.says): k.state for k in kept}
    assert states == {
        ("www.example.com.", "A", "data"): "stale",
        ("mail.example.com.", "A", "data"): "fresh",
        ("example.com.", "A", "data"): "stale",
        ("www.example.net.", "A", "data"): "stale",
        ("no.example.com.", "A", "no such name"): "fresh",
    }
    assert count == 5
    assert nobody is None
    assert www.age == pytest.approx(99.99, abs=0.1)
    assert (www.ttl, www.upstream, www.operator) == (60, "a", "Z")
    assert www.size > 300


def test_what_upstreams_deny_says_so():
    async def main():
        a, b = upstreams([GOOD, nxdomain()], [GOOD, nxdomain()])
        r = resolver(a, b, stale=StalePolicy(on_denial="hold"), strategy="race")
        await call(r)
        await at(100)
        await call(r)
        return r.store.get(WWW, "A").state

    assert run(main) == "denied"


@pytest.mark.parametrize(
    ("name", "options", "left"),
    [
        (None, {}, set()),
        (WWW, {}, ALL - {"www.example.com."}),
        ("EXAMPLE.com", {}, ALL - {"example.com."}),
        ("example.com.", {"subtree": True}, {"www.example.net."}),
        ("nobody.example", {}, ALL),
    ],
)
@pytest.mark.parametrize("behind", [False, True])
def test_names_and_subtrees_are_flushed_in_memory_and_in_the_store(
    name, options, left, behind
):
    async def main():
        store = FakeStore() if behind else None
        r = await filled(store=store)
        if behind:
            await r.store.flush("nobody.")
            await at(1)
            assert len(store.kept) == 4
        gone = await r.store.flush(name, **options)
        names = {kept.name for kept in r.store}
        there = {key.split(b"\0")[0] for key in store.kept} if behind else None
        await r.aclose()
        return gone, names, there

    gone, names, there = run(main)
    assert names == left
    assert gone == 5 - len(left)
    if behind:
        data = len(left - {"no.example.com."})
        assert len(there) == data


def test_what_only_the_store_has_is_flushed_too():
    async def main():
        store = FakeStore()
        r = await filled(store=store)
        await r.aclose()
        cold = resolver(*upstreams(GOOD), store=store)
        gone = await cold.store.flush("example.com", subtree=True), len(store.kept)
        await cold.aclose()
        return gone

    assert run(main) == (3, 1)


def test_what_is_flushed_before_it_was_written_is_not_written():
    async def main():
        store = FakeStore()
        r = await filled(store=store)
        await r.store.flush()
        await at(10)
        await r.aclose()
        return store.kept

    assert run(main) == {}


def test_what_is_being_written_when_it_is_flushed_does_not_come_back():
    async def main():
        store = FakeStore()
        r = await filled(store=store)
        store.after = 0.4
        await at(0.7)
        store.after, before = 0.0, list(store.written)
        await r.store.flush()
        written = list(store.written)
        await r.aclose()
        return before, written, store.kept

    assert run(main) == ([], [6], {})  # it was under way, and is over


def test_what_memory_had_no_room_for_is_not_written_after_a_flush():
    async def main():
        store = FakeStore()
        r = await filled(store=store, cache_size=10)
        waiting = r.stats().store.waiting
        gone = await r.store.flush("example.com", subtree=True)
        await at(10)
        await r.aclose()
        return waiting, gone, [key[:12] for key in store.kept]

    # Four answers wait, and a denial for each family of the fifth name.
    assert run(main) == (6, 3, [b"\3www\7example"])


def test_one_entry_is_found_by_name_and_type():
    async def main():
        r = await filled()
        return r.store.get("WWW.Example.COM", "a"), r.store.get(WWW, "AAAA")

    found, other = run(main)
    assert (found.name, found.rdtype) == ("www.example.com.", "A")
    assert other is None


def test_what_is_flushed_is_asked_for_again():
    async def main():
        r = await filled()
        await r.store.flush(WWW)
        return (await call(r)).source, (await call(r, "example.com")).source

    assert run(main) == ("upstream", "cache")


def test_flushing_forgets_failures():
    async def main():
        r = resolver(*upstreams([servfail(), GOOD]))
        await call(r)
        await r.store.flush(WWW)
        return (await call(r)).what

    assert run(main) == "192.0.2.1"


def test_an_export_is_loaded_elsewhere_as_old_as_it_is():
    async def main():
        file = io.StringIO()
        r = await filled()
        await at(30)
        count = await r.store.export(file)
        other = resolver(*upstreams(servfail()))
        file.seek(0)
        loaded = other.store.load(file)
        first = await call(other)
        age = first.path.age
        await at(100)
        return count, loaded, first, age, await call(other)

    count, loaded, first, age, later = run(main)
    assert (count, loaded) == (4, 4)
    assert (first.what, first.source) == ("192.0.2.1", "cache")
    assert age == pytest.approx(30, abs=0.1)
    assert (later.what, later.source) == ("192.0.2.1", "stale")


def test_an_export_has_what_memory_and_the_store_have_once():
    async def main():
        store = FakeStore()
        r = await filled(store=store)
        await r.aclose()
        file = io.StringIO()
        cold = resolver(*upstreams(GOOD), store=store)
        await call(cold, "new.example.org")
        await call(cold)
        count = await cold.store.export(file)
        await cold.aclose()
        return count, file.getvalue()

    count, text = run(main)
    lines = [json.loads(line) for line in text.splitlines()]
    assert count == len(lines) == 5
    assert {line["name"] for line in lines} == {
        *(f"{name}." for name in NAMES), "new.example.org.",
    }  # fmt: skip
    assert {line["said"]["upstream"] for line in lines} == {"a"}


def test_what_is_loaded_goes_to_the_store_too():
    async def main():
        file = io.StringIO()
        await (await filled()).store.export(file)
        store = FakeStore()
        r = resolver(*upstreams(GOOD), store=store)
        await call(r, "first.example")
        file.seek(0)
        r.store.load(file)
        await r.aclose()
        return len(store.kept)

    assert run(main) == 5


def test_newer_answers_stay_when_older_ones_are_loaded():
    async def main():
        file = io.StringIO()
        r = await filled()
        await r.store.export(file)
        await at(100)
        await call(r)
        file.seek(0)
        return r.store.load(file), r.store.get(WWW).state

    assert run(main) == (0, "fresh")


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("nonsense", "line 2: "),
        ("{}", "line 2: 'key' is missing"),
        ('{"key": "", "wire": "", "ttl": 1, "learnt": 1}', "line 2: a key that is no"),
        ("[" * 100_000, "line 2: "),
    ],
)
def test_a_line_that_is_no_record_is_named(line, why):
    async def main():
        file = io.StringIO()
        r = await filled()
        await r.store.export(file)
        good = file.getvalue().splitlines()[0]
        other = resolver(*upstreams(GOOD))
        with pytest.raises(ConfigurationError, match=why):
            other.store.load([good, line])
        return len(other.store)

    assert run(main) == 1


def test_a_store_that_cannot_be_used_says_so_when_it_is_flushed():
    async def main():
        store = FakeStore()
        r = await filled(store=store)
        await r.aclose()
        store.problem = "gone"
        with pytest.raises(StoreError, match="gone"):
            await r.store.flush()
        left = len(r.store)
        await r.aclose()
        return left

    assert run(main) == 0


def test_what_is_flushed_while_the_store_is_away_is_not_written_later():
    async def main():
        store = FakeStore()
        store.problem = "away"
        r = await filled(store=store)
        with pytest.raises(StoreError, match="away"):
            await r.store.flush(WWW)
        store.problem = ""
        await at(100)
        await r.aclose()
        return store.has(), len(store.kept)

    assert run(main) == (False, 3)
