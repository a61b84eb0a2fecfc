"""``python -m resolverkit``."""

from resolverkit.cli import main

main()
