# make sweep [ARGS="--trials 3"]   the example study, from a bare checkout
# make test                        the tests, but for those of the next three
# make e2e                         whole sweeps: killed, on PostgreSQL, in a browser, on several nodes
# make chaos                       ten minutes of faults at random, and what else takes long to break
# make smoke                       a rehearsal of every page in search_spaces/
# make check                       format, lint, types
# make docs                        docs/settings.md, anew from the stages
# make bench                       every claim of speed, measured here

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STUDY  ?= search_spaces/spc.yaml
ARGS   ?=

# mypy takes no package that is named like a module of the standard library: the driver is checked under another name.
TYPED  := build/typecheck

.DEFAULT_GOAL := help
.PHONY: help sweep test e2e chaos smoke check docs bench
.SILENT:

help:
	sed -n 's/^# \(make .*\)/\1/p' Makefile

sweep: $(VENV)/.installed
	$(BIN)/python -m platform.sweep $(STUDY) $(ARGS)

test: $(VENV)/.installed
	$(BIN)/python -m pytest -n 2 --dist loadfile --ignore=tests/e2e $(ARGS)

e2e: $(VENV)/.installed
	$(BIN)/python -m pytest -n 2 --dist loadfile tests/e2e $(ARGS)

chaos: $(VENV)/.installed
	$(BIN)/python -m pytest -m chaos -n 2 --dist loadfile $(ARGS)

smoke: $(VENV)/.installed
	$(BIN)/python -m pytest -m smoke -n 2 $(ARGS)

check: $(VENV)/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	mkdir -p $(TYPED)
	ln -sfn ../../platform $(TYPED)/driver
	ln -sfn ../../trainables $(TYPED)/trainables
	cd $(TYPED) && $(CURDIR)/$(BIN)/mypy --strict --config-file $(CURDIR)/pyproject.toml -p trainables -p driver

docs: $(VENV)/.installed
	$(BIN)/python -m platform.settings --markdown > docs/settings.md

bench: $(VENV)/.installed
	$(BIN)/python -m benchmarks $(ARGS)

# pip's output is kept out of sight, and shown where it matters: when it failed.
$(VENV)/.installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "$(PYTHON) is $$($(PYTHON) --version 2>&1), but Python 3.11 or newer is needed; give one with make PYTHON=python3.12" >&2; \
		exit 1; }
	echo "installing into $(VENV) (once, a few minutes)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --progress-bar off -e '.[dev]' > $(VENV)/install.log 2>&1 || { \
		tail -n 30 $(VENV)/install.log >&2; \
		echo "the installation failed; all of pip's output is in $(VENV)/install.log" >&2; \
		exit 1; }
	touch $@
