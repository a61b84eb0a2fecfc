"""Imports go one way (ARCHITECTURE.md), and what is heavy loads on first use."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import resolverkit

ROOT = Path(resolverkit.__file__).parent
FILES = {str(p.relative_to(ROOT)): p for p in sorted(ROOT.rglob("*.py"))}

# Each tier may import the ones before it, and those of its own entry in the tuple.
# `transports`, `groups` and `cache` are one tier of three that never import each other.
TIERS = (
    {"errors", "model"},
    # `answer` reads addresses with `wire`; `memory` is the cache without flights.
    {
        "addresses",
        "hosts",
        "svcb",
        "answer",
        "upstream",
        "listener",
        "flight",
        "deadlines",
        "wire",
        "health",
        "policy",
        "comparison",
        "special",
        "entry",
        "memory",
        "record",
        "record_text",
        "behind",
        "budget",
    },
    {"transports", "groups", "stores", "cache"},
    {
        "resolver",
        "system",
        "settings",
        "settings_file",
        "addrinfo",
        "interfaces",
        "lookup",
        "default",
        "config",
        "presets",
        "stack",
        "survey",
        "vantages",
        "cacheview",
        "contents",
        "stats",
        "hooks",
    },
    {
        "background",
        "blocking",
        "blockingview",
        "integrations",
        "server",
        "cli",
        "testing",
        "__init__",
        "__main__",
    },
)
PURE = {
    "errors", "model", "addresses", "answer", "wire", "health", "policy", "comparison",
    "special", "entry", "memory", "record", "record_text", "svcb",
}  # fmt: skip
IMPURE = {"asyncio", "socket", "ssl", "time", "random", "threading", "os", "selectors"}
ALLOWED = {  # beside their own file, where they may be
    "aiohttp": {
        "transports/http1.py", "server/http.py", "integrations/aiohttp.py",
        "integrations/socket.py",  # whose resolver `install` replaces
        "testing/http1.py",  # the lab's DoH server that speaks HTTP/1.1 only
    },
    "httpx": {"integrations/httpx.py"},
    "httpcore": {"integrations/httpx.py"},
    "aiohappyeyeballs": {"integrations/"},
    "yarl": {"transports/http1.py"},
    "h2": {"server/http2.py", "testing/"},
    "hpack": {"transports/h2_blocks.py", "transports/h2_fields.py"},
    "cachetools": {"memory.py"},
    "tenacity": {"transports/reconnect.py", "behind.py"},
    "typer": {"cli/"},
    "rich": {"cli/"},
    "trustme": {"testing/", "cli/"},
    "cryptography": {"transports/tls.py", "testing/"},
    "prometheus_client": {"server/metrics.py"},
    "redis": {"stores/redis.py", "stores/redis_server.py"},
}  # fmt: skip
LAZY = set(ALLOWED) - {"cachetools"}


def imports(path: Path, *, typing: bool = True) -> set[str]:
    """Absolute names of what a file imports, in functions too."""
    found = set()
    todo: list[ast.AST] = [ast.parse(path.read_text())]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            todo += node.body if typing else node.orelse
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            module = node.module or ""
            # `from resolverkit import wire` imports resolverkit.wire.
            names = {f"{module}.{a.name}" for a in node.names}
            found |= names if module == "resolverkit" else {module}
        todo += ast.iter_child_nodes(node)
    return found


def part(name: str) -> str:
    """``resolverkit.transports.url`` or ``transports/url.py``: both are transports."""
    return name.replace("/", ".").removeprefix("resolverkit.").split(".")[0]


def tier(name: str) -> int:
    return next(i for i, names in enumerate(TIERS) if name in names)


@pytest.mark.parametrize("file", FILES)
def test_imports_go_one_way(file):
    here = part(file)
    for name in imports(FILES[file], typing=False):
        if name.split(".")[0] != "resolverkit" or here == "__init__":
            continue
        there = part(name)
        if there in TIERS[2] and here in TIERS[2]:
            assert there == here, f"{file} imports {name}"
        assert tier(there) <= tier(here), f"{file} imports {name}"


@pytest.mark.parametrize("file", [f for f in FILES if part(f) in PURE])
def test_pure_modules_do_no_io_and_have_no_clock(file):
    allowed = {"time"} if file == "answer.py" else set()  # `expiration` is wall time
    found = {name.split(".")[0] for name in imports(FILES[file], typing=False)}
    assert not found & (IMPURE - allowed)


def test_deadlines_knows_asyncio_by_its_types_only():
    assert "asyncio" not in imports(FILES["deadlines.py"], typing=False)


@pytest.mark.parametrize("file", FILES)
def test_libraries_stay_where_they_belong(file):
    found = {name.split(".")[0] for name in imports(FILES[file])}
    for library in found & set(ALLOWED):
        assert file.startswith(tuple(ALLOWED[library])), f"{library} in {file}"


def loaded(code: str) -> set[str]:
    """The modules that are there once a fresh interpreter has run this."""
    told = f"import sys; {code}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", told],
        cwd=ROOT.parent, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return set(done.stdout.split())


def ours(modules: set[str]) -> set[str]:
    prefix = "resolverkit."
    return {name.removeprefix(prefix) for name in modules if name.startswith(prefix)}


def test_an_import_loads_errors_and_values_only():
    found = loaded("import resolverkit")
    assert ours(found) == {"errors", "model", "policy"}
    dnspython = loaded("import dns.asyncresolver")  # on 3.13 this has json
    assert not {"asyncio", "json", *ALLOWED} & (found - dnspython)


@pytest.mark.parametrize(
    "name", dict(map(reversed, resolverkit._LAZY.items())).values()
)
def test_every_module_loads_by_itself(name):
    """In whatever order names are used, none waits for another to be loaded."""
    loaded(f"import resolverkit; resolverkit.{name}")


def test_every_name_loads():
    assert all(getattr(resolverkit, name) for name in resolverkit._LAZY)


def test_a_resolver_loads_what_every_question_needs():
    found = loaded("import resolverkit; resolverkit.Resolver(['192.0.2.53'], False)")
    assert "cachetools" in found
    assert not LAZY & found
    assert not {"json", "sqlite3"} & (found - loaded("import dns.asyncresolver"))
    parts = {
        "answer", "cache", "cacheview", "config", "deadlines", "entry", "errors",
        "flight", "hooks", "listener", "memory", "model", "policy", "presets", "record",
        "resolver", "special", "stack", "system", "transports", "transports.url",
        "upstream", "wire",
    }  # fmt: skip
    assert ours(found) == parts  # groups and transports come with the first question


def test_names_that_load_on_first_use_are_told():
    assert set(resolverkit.__all__) <= set(dir(resolverkit))
    with pytest.raises(AttributeError, match="no attribute 'Resolvr'"):
        _ = resolverkit.Resolvr
