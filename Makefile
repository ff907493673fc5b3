# make sweep [ARGS="--trials 3"]   the example study, from a bare checkout
# make test                        the tests, but for those of the next four
# make gpu-pretend                 every stage on a pretend GPU, and what it costs there in operations and waits
# make e2e                         whole sweeps: killed, on PostgreSQL, in a browser, on several nodes
# make chaos                       ten minutes of faults at random, and what else takes long to break
# make smoke                       every page in search_spaces/ with --smoke
# make check                       format, lint, types
# make docs                        docs/settings.md, anew from the stages
# make bench                       every claim of speed, measured here
# make gpu                         checks and measures on this machine's GPU; ARGS=--pretend shows the path without one
# make constraints                 constraints.txt anew: the newest versions that pyproject.toml allows
# make newest                      make test with the newest versions allowed, in a .venv-newest of its own
# make oldest                      make test with the oldest versions allowed, in a .venv-oldest of its own

PYTHON   ?= python3
# Which versions are installed: pinned (those of constraints.txt), newest or oldest (what pyproject.toml allows).
VERSIONS ?= pinned
VENV     := .venv$(addprefix -,$(filter-out pinned,$(VERSIONS)))
BIN      := $(VENV)/bin
STUDY    ?= search_spaces/spc.yaml
ARGS     ?=

# What pip is told beside the project itself, and the file that this comes from.
PIP_pinned := -c constraints.txt
PIP_newest := --upgrade --upgrade-strategy eager
PIP_oldest := -c build/oldest.txt
# Old libraries beside newer ones are warned of by those; with the other two sets a warning is an error.
PYTEST_oldest := -W default
VERSIONS_pinned := constraints.txt
VERSIONS_oldest := build/oldest.txt

# uv finds one set of versions for every Python and platform, which pip alone does not; it installs nothing here.
UV := build/uv/bin/uv
# A file of constraints that this machine's pip is configured with holds for uv too.
RESOLVE = UV_CONSTRAINT="$$($(PYTHON) -m pip config list | sed -n "s/^global\.constraint='\(.*\)'/\1/p")" \
	$(UV) pip compile --quiet --upgrade --no-annotate --extra dev pyproject.toml > /dev/null

# mypy takes no package that is named like a module of the standard library: the driver is checked under another name.
TYPED  := build/typecheck

.DEFAULT_GOAL := help
.PHONY: help sweep test gpu gpu-pretend e2e chaos smoke check docs bench constraints newest oldest
.SILENT:

help:
	sed -n 's/^# \(make .*\)/\1/p' Makefile

sweep: $(VENV)/.installed
	$(BIN)/python -m platform.sweep $(STUDY) $(ARGS)

test: $(VENV)/.installed
	$(BIN)/python -m pytest -n 2 --dist loadfile --ignore=tests/e2e --ignore=tests/pretend_gpu $(PYTEST_$(VERSIONS)) $(ARGS)

gpu-pretend: $(VENV)/.installed
	$(BIN)/python -m pytest -n 2 tests/pretend_gpu $(PYTEST_$(VERSIONS)) $(ARGS)

e2e: $(VENV)/.installed
	$(BIN)/python -m pytest -n 2 --dist loadfile tests/e2e $(PYTEST_$(VERSIONS)) $(ARGS)

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

gpu: $(VENV)/.installed
	$(BIN)/python -m benchmarks.gpu $(ARGS)

constraints: $(UV)
	$(RESOLVE) --universal --python-version 3.11 --fork-strategy fewest \
		--custom-compile-command "make constraints" -o constraints.txt

newest:
	rm -f .venv-newest/.installed
	$(MAKE) test VERSIONS=newest

oldest:
	$(MAKE) test VERSIONS=oldest

# pip's output is kept out of sight, and shown where it matters: when it failed.
$(VENV)/.installed: pyproject.toml $(VERSIONS_$(VERSIONS))
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "$(PYTHON) is $$($(PYTHON) --version 2>&1), but Python 3.11 or newer is needed; give one with make PYTHON=python3.12" >&2; \
		exit 1; }
	echo "installing into $(VENV) (once, a few minutes)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --progress-bar off $(PIP_$(VERSIONS)) -e '.[dev]' \
		> $(VENV)/install.log 2>&1 || { \
		tail -n 30 $(VENV)/install.log >&2; \
		echo "the installation failed; all of pip's output is in $(VENV)/install.log" >&2; \
		exit 1; }
	touch $@

build/oldest.txt: pyproject.toml | $(UV)
	$(RESOLVE) --resolution lowest-direct --python $(PYTHON) -o $@

$(UV):
	$(PYTHON) -m venv build/uv
	build/uv/bin/python -m pip install --quiet --disable-pip-version-check uv==0.13.9
