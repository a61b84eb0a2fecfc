"""Every outage is replayed, and its table says what the documents promise.

They run in their fast form, some at the same time, each in a process of its own.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from resolverkit.cli import demo_phases
from resolverkit.testing import Fault
from resolverkit.testing.outage import Phase
from resolverkit.testing.outages import OUTAGES
from resolverkit.testing.replay import FAST, FULL, Replay
from resolverkit.testing.tally import Tally

COMMAND = [sys.executable, "-W", "error", "-m", "resolverkit", "demo"]
DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "outages.md"
PAGE = "microsoft-2019"
"""The outage that is replayed as a page, too."""
AT_ONCE = 4
"""Replays at the same time: each is idle for most of its time."""
EACH = pytest.mark.parametrize("name", OUTAGES)


def start(*options):
    return subprocess.Popen(
        [*COMMAND, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )


def finish(process):
    """Exit status, standard output, standard error."""
    output, errors = process.communicate(timeout=70)
    return process.returncode, output, errors


@pytest.fixture(scope="module")
def replays():
    """What became of each outage, and of the page: status, output, errors."""
    options = {name: ("--outage", name, "--fast", "--json") for name in OUTAGES}
    options["page"] = ("--outage", PAGE, "--fast")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        done = pool.map(lambda each: finish(start(*each)), options.values())
        return dict(zip(options, done, strict=True))


@pytest.fixture
def phases(replays):
    """A function: name of an outage → tallies by phase and client."""
    return lambda name: json.loads(replays[name][1])["phases"]


def about(count, expected):
    """On a machine that is busy, a question may end in the next phase."""
    return abs(count - expected) <= max(2, expected / 5)


def lasting(name, tallies):
    """The tallies of the phases in which something is wrong."""
    return [tallies[phase.name] for phase in OUTAGES[name].phases if phase.outage]


# --- what holds for all -------------------------------------------------------------


@EACH
def test_nothing_is_lost_that_was_to_be_kept(replays, phases, name):
    status, output, errors = replays[name]
    assert (status, errors) == (0, "")
    told = json.loads(output)
    assert (told["outage"], told["failures"]) == (name, [])
    keeping = [client.label for client in OUTAGES[name].clients if client.keeps]
    assert keeping
    for tallies in phases(name).values():
        for label in keeping:
            assert tallies[label]["answered"] == tallies[label]["asked"] > 0


@EACH
def test_all_is_well_before(phases, name):
    first, *_ = phases(name).values()
    for label, tally in first.items():
        assert about(tally["answered"], tally["asked"]), label
        assert tally["sources"].keys() <= {"upstream", "cache"}


@EACH
def test_plain_dnspython_loses_or_waits(phases, name):
    for tallies in lasting(name, phases(name)):
        plain = tallies["dnspython"]
        assert plain["wrong"] + plain["failed"] > 0 or plain["median_ms"] > 1000


@EACH
def test_load_is_not_multiplied(phases, name):
    """Fewer queries than plain dnspython's, with upstreams like these."""
    told = phases(name)
    for tallies in (*lasting(name, told), *list(told.values())[-1:]):
        sent = {label: tally["queries"] for label, tally in tallies.items()}
        ours = [sent[label] for label in sent if label.startswith("resolverkit")]
        plain = [sent[label] for label in sent if label.startswith("dnspython")]
        assert max(ours) < min(plain)


@EACH
def test_seconds_add_up_to_phases(replays, name):
    told = json.loads(replays[name][1])
    for phase, tallies in told["phases"].items():
        rows = [row for row in told["rows"] if row["phase"] == phase]
        for label, tally in tallies.items():
            assert tally["asked"] == sum(row[label]["asked"] for row in rows)
            done = tally["answered"] + tally["wrong"] + tally["failed"]
            assert done == tally["asked"]


@pytest.mark.parametrize(("pace", "limit"), [(FULL, 30), (FAST, 10)])
@EACH
def test_it_is_short(name, pace, limit):
    """With a second to start, and a lifetime for the last question of an outage."""
    *seconds, after = map(pace.seconds, OUTAGES[name].phases)
    assert 1 + sum(seconds) + max(after, pace.lifetime) <= limit


@EACH
def test_the_data_is_sound(name):
    outage = OUTAGES[name]
    assert outage.name == name
    assert all(outage.truth().values())
    assert all(outage.to_dict().values())
    for client in outage.clients:
        assert set(client.vantages) <= set(outage.vantages)
        asked = {outage.vantages[vantage].transport for vantage in client.vantages}
        assert client.library == "resolverkit" or asked <= {"udp", "dot"}
    for phase in outage.phases:
        assert set(phase.faults) <= set(outage.vantages)


# --- each ---------------------------------------------------------------------------


def test_facebook_2021(phases):
    gone = phases("facebook-2021")["gone"]
    assert gone["dnspython"]["failed"] > gone["dnspython"]["asked"] / 4
    assert gone["dnspython"]["wrong"] == 0  # nobody denied anything
    assert gone["resolverkit"]["sources"]["stale"] > 0


def test_dyn_2016(phases):
    """Whom the flood has not reached yet is asked; then there is stale data."""
    told = phases("dyn-2016")
    assert set(told["first wave"]["resolverkit"]["sources"]) <= {"upstream", "cache"}
    assert told["second wave"]["resolverkit"]["sources"]["stale"] > 0
    assert told["second wave"]["dnspython"]["failed"] > 0


def test_microsoft_2019(phases):
    """A quarter of all names is denied by each vantage, and none by two."""
    during = phases(PAGE)["during"]
    assert about(during["dnspython"]["wrong"], during["dnspython"]["asked"] / 4)
    assert during["resolverkit"]["wrong"] == 0
    assert during["resolverkit"]["disputed"] > 0


def test_resolver_2023(phases):
    """One name of seven; another operator helps either library, stale one of them."""
    during = phases("resolver-2023")["during"]
    assert about(during["dnspython"]["failed"], during["dnspython"]["asked"] / 7)
    assert during["resolverkit"]["sources"]["stale"] > 0
    assert during["dnspython + Beta"]["via"]["Beta dot"] > 0
    assert set(during["resolverkit + Beta"]["sources"]) <= {"upstream", "cache"}


def test_resolver_2025(phases):
    """One operator, and only one way to it is left."""
    during = phases("resolver-2025")["during"]
    assert during["dnspython"]["failed"] > 0
    ours = during["resolverkit"]
    assert set(ours["via"]) <= {"Alpha doh"}
    assert set(ours["sources"]) <= {"upstream", "cache"}


@pytest.mark.parametrize("name", ["zoom-2025", "dynamodb-2025"])
def test_a_denial_by_all_is_outlasted_only_by_holding_on(phases, name):
    during = phases(name)["during"]
    for label in ("dnspython", "resolverkit"):
        assert during[label]["wrong"] > during[label]["asked"] / 2
        assert about(during[label]["failed"], 0)
    assert "stale" not in during["resolverkit"]["sources"]
    held = during["resolverkit, hold"]
    assert (held["wrong"], held["failed"]) == (0, 0)
    assert held["sources"]["held"] > held["asked"] / 2


def test_de_2026(phases):
    """Without validated data there are two ways to be wrong: none, and any."""
    during = phases("de-2026")["during"]
    plain, any_data = during["dnspython"], during["dnspython + Gamma"]
    assert about(plain["answered"], plain["asked"] / 2)
    assert any_data["via"]["Gamma udp"] > 0
    assert any_data["validated"] < any_data["answered"]
    assert during["resolverkit"]["validated"] == during["resolverkit"]["asked"]
    assert during["resolverkit"]["sources"]["stale"] > 0


# --- the command --------------------------------------------------------------------


def words(text):
    return re.sub(r"\s+", " ", text)


def test_the_page_has_facts_table_and_limits(replays):
    status, output, errors = replays["page"]
    assert (status, errors) == (0, "")
    assert max(map(len, output.splitlines())) <= 80
    outage = OUTAGES[PAGE]
    for text in (outage.title, outage.when, outage.facts, outage.signature):
        assert text in words(output)
    assert words(f"Limits: {outage.limits}") in words(output)
    assert "resolverkit kept every answer" in output
    assert re.search(r"^dnspython lost \d+ of \d+ answers$", output, re.MULTILINE)
    heads = ["before", "during", "after"]
    assert [line.strip() for line in output.splitlines() if line.strip() in heads] == (
        heads
    )


def test_the_list_and_what_is_not_in_it():
    listing, as_json, unknown = (
        start("--outage", "list"),
        start("--outage", "list", "--json"),
        start("--outage", "nosuch-1999"),
    )
    status, output, _ = finish(listing)
    assert status == 0
    assert [name for name in OUTAGES if name not in output] == []
    assert [told["name"] for told in json.loads(finish(as_json)[1])] == list(OUTAGES)
    status, output, errors = finish(unknown)
    assert (status, output) == (2, "")
    assert "resolverkit: no outage 'nosuch-1999': allowed are facebook-2021" in errors


def test_a_lost_answer_is_shown_in_the_page(capsys):
    broken = Phase(
        name="before",
        seconds=0.5,
        fast=0.5,
        faults={name: Fault(rcode=2) for name in OUTAGES[PAGE].vantages},
    )
    replay = Replay(replace(OUTAGES[PAGE], phases=(broken,)), FAST)
    asyncio.run(demo_phases.show(replay, Console(width=80, highlight=False)))
    assert re.match(r"resolverkit: db\d.database.windows.net at 0", replay.failures[0])
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if re.match(r"resolverkit lost \d+ of \d+", line)]


def test_no_phase_goes_by_while_the_process_does_not_run():
    phases = [Phase(name=name, seconds=0.6, fast=0.6) for name in ("one", "two")]
    outage = replace(OUTAGES["facebook-2021"], phases=tuple(phases))

    def stand_still(row):
        if len(replay.rows) == 1:
            time.sleep(1.3)  # longer than both

    replay = Replay(outage, FAST, stand_still)
    asyncio.run(replay.run())
    for tallies in replay.phases().values():
        assert tallies["dnspython"].asked >= 2 * len(outage.names)


def test_ways_are_shares_of_all_answers():
    tally = Tally()
    tally.sources.update(upstream=3, cache=6, stale=1)
    tally.via.update({"Alpha udp": 2, "Beta dot": 1})
    assert demo_phases.ways(tally) == (
        "cache 60 %, Alpha udp 20 %, Beta dot 10 %, stale 10 %"
    )
    assert demo_phases.ways(Tally()) == ""


# --- the document -------------------------------------------------------------------


@EACH
def test_the_document_says_what_the_data_says(name):
    text = words(DOCUMENT.read_text("utf-8"))
    for said in OUTAGES[name].to_dict().values():
        assert words(said) in text


def test_every_command_of_the_document_is_replayed_here():
    text = DOCUMENT.read_text("utf-8")
    named = re.findall(r"^\$ resolverkit demo --outage (\S+)$", text, re.MULTILINE)
    assert named == ["list", *OUTAGES]
