# Everything that is done with this repository. `make help` tells.

PYTHON ?= python3
DEMO_ARGS ?=
TEST_ARGS ?=
BENCH_ARGS ?=

# One virtual environment for each version of Python: .venv for the default one,
# .venv-3.13 and so on for others.
VERSION := import sys; print("%d.%d" % sys.version_info[:2])
TOO_OLD := import sys; sys.exit(sys.version_info < (3, 11))
ifndef VENV
ifeq ($(origin PYTHON),file)
VENV := .venv
else
VENV := .venv-$(shell $(PYTHON) -c '$(VERSION)' 2>/dev/null || echo none)
endif
endif
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
BENCH_STAMP := $(VENV)/.installed-bench
DOCS_STAMP := $(VENV)/.installed-docs
PACKAGE_STAMP := $(VENV)/.installed-package

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test check format lint types docs package bench bench-quick servers \
  clean

help: ## print this
	@echo 'make TARGET [VARIABLE=VALUE …]'
	@echo
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1|\2/p' Makefile | \
	  awk -F'|' '{ printf "%-12s %s\n", $$1, $$2 }'
	@echo
	@echo '  PYTHON       the interpreter, 3.11 or newer; make test PYTHON=python3.13'
	@echo '               keeps its own .venv-3.13 (default: python3, in .venv)'
	@echo '  VENV         where to put the virtual environment'
	@echo '  DEMO_ARGS    for the demo, such as --fast or --json'
	@echo '  TEST_ARGS    for pytest, such as "-x -k hedge"'
	@echo '  BENCH_ARGS   for the benchmarks'
	@echo '  CI           when set, test installs the servers and misses none'

demo: $(STAMP) ## the outage of 2021-10-04 on loopback: plain dnspython beside resolverkit
	$(BIN)/resolverkit demo $(DEMO_ARGS)

# Where CI is set, the real servers are installed first; their absence fails.
ifneq ($(filter-out 0 false,$(CI)),)
test: servers
endif
test: $(STAMP) ## all tests
	$(BIN)/python -m pytest -q $(TEST_ARGS)

check: lint types test ## format, lint, types and tests: what a change has to pass

format: $(STAMP) ## put the sources in shape
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

lint: $(STAMP) ## formatting and lint, changing nothing
	$(BIN)/ruff format --check
	$(BIN)/ruff check

types: $(STAMP) ## mypy, strict; and pyright: no public name without its type
	$(BIN)/mypy
	PATH="$(abspath $(BIN)):$$PATH" basedpyright --verifytypes resolverkit --ignoreexternal

docs: $(DOCS_STAMP) ## the documents as a site, in build/site; a warning is an error
	$(BIN)/sphinx-build -W --keep-going -q -E -b html docs build/site
	$(BIN)/python scripts/check-site build/site
	@echo 'open build/site/index.html'

package: $(PACKAGE_STAMP) ## build sdist and wheel, and try them in a fresh environment
	$(BIN)/python scripts/check-package

bench: $(BENCH_STAMP) ## speed, as ratios against dnspython, aiodns and Unbound
	$(BIN)/python bench $(BENCH_ARGS)

bench-quick: $(BENCH_STAMP) ## what has a floor, in under 3 minutes; fails where a ratio fell
	$(BIN)/python bench --rounds 3 --check $(BENCH_ARGS)

servers: ## install the real DNS servers for the tests (Debian, root), none started
	scripts/install-servers

clean: ## remove the virtual environments and caches
	rm -rf .venv .venv-* build .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): pyproject.toml
	@$(PYTHON) -c '' 2>/dev/null || \
	  { echo 'resolverkit needs Python 3.11 or newer, and $(PYTHON) does not run:' \
	    'name one, as in make PYTHON=python3.12 …' >&2; exit 1; }
	@$(PYTHON) -c '$(TOO_OLD)' || \
	  { echo "resolverkit needs Python 3.11 or newer, and $(PYTHON) is" \
	    "$$($(PYTHON) -c '$(VERSION)'): name one, as in make PYTHON=python3.12 …" >&2; \
	    exit 1; }
	@echo 'Installing resolverkit and its tools in $(VENV), once …'
	@[ "$$($(BIN)/python -c '$(VERSION)' 2>/dev/null)" = \
	   "$$($(PYTHON) -c '$(VERSION)')" ] || \
	  $(PYTHON) -m venv --clear $(VENV) || \
	  { echo 'python -m venv failed; on Debian it comes with python3-venv' >&2; exit 1; }
	@echo '*' > $(VENV)/.gitignore
	@$(BIN)/python -m pip install -q --disable-pip-version-check --upgrade 'pip>=25.1'
	@$(BIN)/python -m pip install -q -e '.[cli,testing,pin,speed,redis,server]' --group dev
	@touch $@

$(VENV)/.installed-%: $(STAMP)
	@$(BIN)/python -m pip install -q --group $*
	@touch $@
