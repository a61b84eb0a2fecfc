"""The public names: sorted, documented, and where they say they are."""

from __future__ import annotations

import enum
import importlib
import inspect
import pkgutil

import pytest

import resolverkit

MODULES = [
    name
    for _, name, _ in pkgutil.walk_packages(resolverkit.__path__, "resolverkit.")
    if not name.startswith("resolverkit.cli") and not name.endswith("__main__")
]


def public(module):
    return {name: getattr(module, name) for name in module.__all__}


def test_all_is_sorted_and_complete():
    names = resolverkit.__all__
    assert len(set(names)) == len(names)
    # ruff's order: constants, classes, functions.
    kinds = [(not n.isupper(), not n[0].isupper(), n) for n in names]
    assert kinds == sorted(kinds)
    loaded = {name: getattr(resolverkit, name) for name in resolverkit._LAZY}
    public = {
        name
        for name, value in {**vars(resolverkit), **loaded}.items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert public - {"TYPE_CHECKING", "Any"} == set(names)


@pytest.mark.parametrize("name", resolverkit.__all__)
def test_what_is_public_is_documented(name):
    value = getattr(resolverkit, name)
    assert inspect.getdoc(value)
    assert value.__doc__, "its own docstring, not an inherited one"
    assert value.__doc__[0] != "("  # nor one that a dataclass makes
    assert not value.__doc__.startswith(f"{name}(")
    if not inspect.isclass(value) or issubclass(value, enum.Enum):
        return
    for attr, member in vars(value).items():
        if attr.startswith("_") or attr in getattr(value, "__slots__", ()):
            continue
        if inspect.isfunction(member) or isinstance(member, (property, classmethod)):
            assert inspect.getdoc(getattr(value, attr)), f"{name}.{attr}"


@pytest.mark.parametrize("name", MODULES)
def test_every_module_says_what_it_is_for(name):
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:  # an extra that is not installed
        assert not error.name.startswith("resolverkit")  # noqa: PT017
        return
    assert module.__doc__
    for attr in getattr(module, "__all__", ()):
        assert getattr(module, attr).__doc__


def test_the_typing_of_the_package_is_public():
    from pathlib import Path

    assert Path(resolverkit.__file__).with_name("py.typed").exists()
