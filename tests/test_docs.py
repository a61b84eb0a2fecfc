"""What the documents say is so: their code runs, and their tables are the sources'.

The python blocks of one document run in order, in one namespace, as they stand. The
network is played: whichever upstream a block names is a `ScriptedUpstream` that has its
URL, its operator and its address, and the records of `NAMES`; resolv.conf is a file of
the test's. All else is the real thing, a Lab on loopback too, and a web server where
app.example.com is: its port is a free one in place of 8080. What blocks await at top
level runs in one event loop per document; complete programs make loops of their own.

````text
```python          runs
```text output     is what the block before it prints; times may differ
```console         is commands that there are, with options and extras that there are
```toml            is a file that `resolverkit serve` could use
````
"""

from __future__ import annotations

import ast
import asyncio
import http.server
import inspect
import re
import shlex
import sys
import threading
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

import resolverkit
import resolverkit.integrations.aiohttp
import resolverkit.integrations.httpx
from resolverkit import blocking, integrations, policy, server, stack, testing
from resolverkit.cli.app import app
from resolverkit.integrations import socket as installations
from resolverkit.presets import PRESETS
from resolverkit.testing import ScriptedUpstream, answer, nxdomain

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
EVERY = pytest.mark.parametrize(
    "path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT))
)

NAMES = {
    "www.example.com": answer("192.0.2.10", "2001:db8::10", ttl=300),
    "app.example.com": answer("127.0.0.1", ttl=300),
    "db.corp.example": answer("10.0.0.5"),
    "nosuch.example.com": nxdomain(),
    "10.2.0.192.in-addr.arpa": answer("www.example.com."),
}

FENCE = re.compile(
    r"^(?P<indent> *)(?P<fence>`{3,4})(?P<info>[^`\n]*)\n"
    r"(?P<body>.*?)^(?P=indent)(?P=fence)$",
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
            re.sub(f"(?m)^{found['indent']}", "", found["body"]),
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
    yield
    for installation in installations._active:  # those of a whole program
        installation.close()


class _Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def port():
    """Of a web server on 127.0.0.1."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Page) as web:
        thread = threading.Thread(target=web.serve_forever)
        thread.start()
        yield web.server_port
        web.shutdown()
        thread.join()


def run_block(block, code, namespace, runner, capsys):
    result = eval(code, namespace)  # noqa: S307  our own documents
    if inspect.iscoroutine(result):
        runner.run(result)
    return capsys.readouterr().out


def same(printed):
    """What is printed, but for the times that it took."""
    return re.sub(r"\b\d+(\.\d+)? ms", "… ms", printed.strip())


@EVERY
def test_code_runs(path, network, port, capsys):
    namespace = {"__name__": "__main__"}
    printed = None
    with asyncio.Runner() as runner:
        for block in blocks(path):
            if block.info == "text output":
                assert same(printed) == same(block.body), f"line {block.line}"
            if not block.info.startswith("python"):
                continue
            assert block.info == "python", f"line {block.line}"
            code = compile(
                "\n" * (block.line - 1) + re.sub(r"\b8080\b", str(port), block.body),
                str(path),
                "exec",
                flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
            )
            printed = run_block(block, code, namespace, runner, capsys)


def commands(path):
    """The lines of console blocks that one would type."""
    for block in blocks(path):
        if block.info == "console":
            lines = block.body.splitlines()
            yield from [line[2:] for line in lines if line[:2] == "$ "] or lines


@EVERY
def test_commands_exist(path):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for line in commands(path):
        program, *arguments = shlex.split(line)
        if program == "resolverkit":
            understand(get_command(app), arguments)
        elif program == "pip":
            name, _, extras = arguments[-1].rstrip("]").partition("[")
            assert name == project["name"]
            assert set(filter(None, extras.split(","))) <= set(
                project["optional-dependencies"]
            )
        elif program == "make":
            assert re.search(rf"^{arguments[0]}:", makefile, re.MULTILINE), line
        elif program == "python" or "/" in program:
            assert (ROOT / [program, *arguments][program == "python"]).exists(), line
        else:
            assert program in {"dig", "nmcli"}, line


@EVERY
def test_configuration_files_can_be_used(path, tmp_path):
    for block in blocks(path):
        if block.info == "toml":
            file = tmp_path / "resolverkit.toml"
            file.write_text(block.body)
            done = CliRunner().invoke(app, ["config", "check", str(file)])
            assert done.exit_code == 0, done.output


def understand(command, arguments, parent=None):
    """Raise UsageError where the command line could not make sense of it."""
    with command.make_context("resolverkit", list(arguments), parent=parent) as context:
        if hasattr(command, "resolve_command"):
            rest = [*context._protected_args, *context.args]
            _, found, left = command.resolve_command(context, rest)
            understand(found, left, context)


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
    """Those who read it in the repository have no sidebar."""
    text = (ROOT / "README.md").read_text("utf-8")
    pages_of_the_site = {"architecture.md", "changelog.md"}  # stand beside the README
    for path in DOCUMENTS:
        if path.name not in {"README.md", "benchmarks.md", *pages_of_the_site}:
            assert f"]({path.relative_to(ROOT)})" in text


# --- reference -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "module",
    [resolverkit, blocking, server, testing, integrations.aiohttp, integrations.httpx],
    ids=lambda m: m.__name__,
)
def test_every_public_name_is_in_the_reference(module):
    text = (ROOT / "docs/api.md").read_text("utf-8")
    told = set(
        re.findall(rf"^.. auto\w+:: {module.__name__}\.(\w+)$", text, re.MULTILINE)
    )
    assert set(module.__all__) - told == set()


@pytest.mark.parametrize(
    "value",
    [
        blocking.Resolver,
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
def test_every_parameter_is_in_its_docstring(value):
    """From which the reference is made; a dataclass has attributes."""
    text = re.split("^(?:Args|Attributes):$", inspect.getdoc(value), flags=re.MULTILINE)
    for name in set(inspect.signature(value).parameters) - {"self"}:
        line = rf"^    \*{{0,2}}(\w+, )*{name}(, \w+)*:"
        assert re.search(line, text[1], re.MULTILINE), name


@pytest.mark.parametrize("module", [resolverkit, blocking, server, testing])
def test_no_property_is_taken_for_an_attribute_with_a_type(module):
    """Napoleon has ``type: what it is`` for docstrings of attributes."""
    for name in module.__all__:
        for attr, value in vars(getattr(module, name)).items():
            if isinstance(value, property):
                assert ": " not in (value.__doc__ or "").split("\n")[0], (
                    f"{name}.{attr}"
                )


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
