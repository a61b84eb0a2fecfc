"""What the documents say is so: their code runs, and their tables are the sources'.

The python blocks of one document run in order, in one namespace, as they stand. The
network is played: whichever upstream a block names is a `ScriptedUpstream` that has its
URL, its operator and its address, and the records of `NAMES`; resolv.conf is a file of
the test's. All else is the real thing, a Lab on loopback too. What blocks await at top
level runs in one event loop per document; complete programs make loops of their own.

````text
```python          runs
```python no-run   is compiled only: it would change the machine, or never end
```text output     is what the block before it prints; times may differ
````
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import sys
import threading
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from typer.main import get_command

import resolverkit
from resolverkit import blocking, policy, server, stack, testing
from resolverkit.cli.app import app
from resolverkit.presets import PRESETS
from resolverkit.testing import ScriptedUpstream, answer, nxdomain

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
EVERY = pytest.mark.parametrize(
    "path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT))
)

NAMES = {
    "www.example.com": answer("192.0.2.10", "2001:db8::10", ttl=300),
    "db.corp.example": answer("10.0.0.5"),
    "nosuch.example.com": nxdomain(),
    "10.2.0.192.in-addr.arpa": answer("www.example.com."),
}

FENCE = re.compile(
    r"^(?P<fence>`{3,4})(?P<info>[^`\n]*)\n(?P<body>.*?)^(?P=fence)$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """A fenced block, and the line that it begins on."""

    info: str
    body: str
    line: int


def blocks(path):
    text = path.read_text("utf-8")
    return [
        Block(
            found["info"].strip(),
            found["body"],
            text[: found.start("body")].count("\n") + 1,
        )
        for found in FENCE.finditer(text)
    ]


def prose(path):
    return FENCE.sub("", path.read_text("utf-8"))


# --- code ----------------------------------------------------------------------------


@pytest.fixture
def network(monkeypatch, tmp_path):
    """Upstreams that are played, and a resolv.conf that names one of them."""

    real = stack.build

    def build(url, **options):
        if url.address == "127.0.0.1":  # a Lab's
            return real(url, **options)
        upstream = ScriptedUpstream(url.endpoint.name, NAMES)
        address = url.address or "192.0.2.53"
        upstream.endpoint = replace(url.endpoint, address=address)
        return upstream

    resolv_conf = tmp_path / "resolv.conf"
    resolv_conf.write_text("nameserver 192.168.0.1\nsearch lan.example\n")
    monkeypatch.setattr(stack, "build", build)
    for face in (resolverkit.Resolver, blocking.Resolver):
        defaults = face.__init__.__kwdefaults__
        monkeypatch.setitem(defaults, "filename", str(resolv_conf))
    monkeypatch.setattr(blocking, "_default", None)
    default = sys.modules[resolverkit.get_default_resolver.__module__]
    monkeypatch.setattr(default, "_threads", threading.local())
    monkeypatch.chdir(tmp_path)


def run_block(block, code, namespace, runner, capsys):
    result = eval(code, namespace)  # noqa: S307  our own documents
    if inspect.iscoroutine(result):
        runner.run(result)
    return capsys.readouterr().out


def same(printed):
    """What is printed, but for the times that it took."""
    return re.sub(r"\b\d+(\.\d+)? ms", "… ms", printed.strip())


@EVERY
def test_code_runs(path, network, capsys):
    namespace = {"__name__": "__main__"}
    printed = None
    with asyncio.Runner() as runner:
        for block in blocks(path):
            if block.info == "text output":
                assert same(printed) == same(block.body), f"line {block.line}"
            if not block.info.startswith("python"):
                continue
            assert block.info in {"python", "python no-run"}, f"line {block.line}"
            code = compile(
                "\n" * (block.line - 1) + block.body,
                str(path),
                "exec",
                flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
            )
            if block.info == "python":
                printed = run_block(block, code, namespace, runner, capsys)


# --- links ---------------------------------------------------------------------------


def anchors(path):
    """The anchors that GitHub makes of the headings."""
    headings = re.findall(r"^#+ (.+)$", prose(path), re.MULTILINE)
    texts = (re.sub(r"[`*]|\[([^]]*)\]\([^)]*\)", r"\1", h) for h in headings)
    return {re.sub(r"[^\w\- ]", "", t.lower()).replace(" ", "-") for t in texts}


@EVERY
def test_links_resolve(path):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(path)):
        if re.match(r"https?://|mailto:", target):
            continue
        name, _, anchor = target.partition("#")
        found = (path.parent / name).resolve() if name else path
        assert found.exists(), target
        assert found.is_relative_to(ROOT), target
        if anchor:
            assert anchor in anchors(found), target


def test_every_document_can_be_found_from_the_readme():
    text = (ROOT / "README.md").read_text("utf-8")
    for path in DOCUMENTS:
        if path.name not in {"README.md", "benchmarks.md"}:
            assert f"]({path.relative_to(ROOT)})" in text


# --- reference -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "module", [resolverkit, blocking, server, testing], ids=lambda m: m.__name__
)
def test_every_public_name_is_in_the_reference(module):
    text = (ROOT / "docs/api.md").read_text("utf-8")
    before = "blocking." if module is blocking else ""
    missing = [n for n in module.__all__ if not re.search(rf"`{before}{n}\b", text)]
    assert not missing


@pytest.mark.parametrize(
    "value",
    [
        resolverkit.Resolver,
        resolverkit.Resolver.resolve,
        resolverkit.Resolver.survey,
        resolverkit.Resolver.getaddrinfo,
        resolverkit.install,
        resolverkit.open_connection,
        resolverkit.Hedge,
        resolverkit.Quorum,
        resolverkit.StalePolicy,
        testing.ScriptedUpstream,
        testing.LabUpstream,
        testing.Authority,
        server.Server,
        testing.Fault,
        testing.answer,
        testing.nxdomain,
    ],
    ids=lambda value: value.__qualname__,
)
def test_every_parameter_is_in_the_reference(value):
    text = (ROOT / "docs/api.md").read_text("utf-8")
    names = set(inspect.signature(value).parameters) - {"self"}
    assert not [n for n in names if not re.search(rf"\b{n}\b", text)]


def test_every_option_of_the_command_line_is_described():
    text = (ROOT / "docs/command-line.md").read_text("utf-8")
    for name, command in get_command(app).commands.items():
        assert f"resolverkit {name}" in text
        for parameter in command.params:
            for option in parameter.opts:
                if option.startswith("-"):
                    assert f"`{option}" in text, option


def test_the_table_of_presets_is_the_data():
    text = (ROOT / "docs/upstreams.md").read_text("utf-8")
    for name, preset in PRESETS.items():
        schemes, blocked = ", ".join(preset.schemes), preset.filtering or "nothing"
        row = [f"`{name}`", preset.operator, preset.addresses[0], schemes, blocked]
        assert f"| {' | '.join(row)} |" in text
    rows = re.findall(r"^\| `[\w-]+` \|.* tls, https \|", text, re.MULTILINE)
    assert len(rows) == len(PRESETS)


def test_the_table_of_timers_is_the_data():
    text = (ROOT / "docs/failure-model.md").read_text("utf-8")
    rows = re.findall(r"^\| `([A-Z_]+)` \| ([\d.,]+)", text, re.MULTILINE)
    assert len(rows) >= 12
    for name, value in rows:
        assert float(value.replace(",", "")) == getattr(policy, name), name
