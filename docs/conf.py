"""The documents as a site: ``make docs``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

project = "resolverkit"
author = "The resolverkit maintainers"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
nitpicky = False  # dnspython's own types have no page here
suppress_warnings = ["ref.python"]  # four classes are a Resolver, each of its module

html_theme = "furo"
html_title = "resolverkit"
html_show_copyright = False
html_copy_source = False
html_show_sourcelink = False

myst_heading_anchors = 4  # GitHub's, which the documents use among themselves
default_role = "py:obj"  # `name` in a docstring
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
napoleon_use_rtype = False
napoleon_use_ivar = True
toc_object_entries_show_parents = "hide"

OUTSIDE = {
    "../ARCHITECTURE.md": "architecture.md",
    "../CHANGELOG.md": "changelog.md",
}
"""What stands beside ``docs`` in the repository, and its page of the site."""


def _inside(_: Sphinx, name: str, source: list[str]) -> None:
    """Have links to documents outside lead to their pages."""
    up = "../" * name.count("/")
    for target, page in OUTSIDE.items():
        source[0] = source[0].replace(f"]({up}{target}", f"]({up}{page}")


def setup(app: Sphinx) -> None:
    """What Sphinx calls."""
    app.connect("source-read", _inside)
