# `make demo` and `make test` need nothing but Python >= 3.11 and a package index.
PYTHON ?= python3
VENV ?= .venv
WORKDIR ?= runs/demo
PYTEST_ARGS ?= -n 2 --dist worksteal
RESULTS ?= runs/results

BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install demo test oldest lint format docs links bench results lock resolve clean

help:  ## print this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' Makefile

demo: $(INSTALLED)  ## run the whole pipeline on the built-in corpus; resumes (WORKDIR=runs/demo)
	$(BIN)/python -m automoe_jax.main --config=configs/demo.py --workdir=$(WORKDIR)

test: $(INSTALLED)  ## run all tests (PYTEST_ARGS="-k costs -x" for some)
	$(BIN)/python -m pytest $(PYTEST_ARGS)

oldest: $(INSTALLED)  ## run the quick tests with the oldest allowed versions, in build/oldest (PYTEST_ARGS="tests/ops")
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python build/oldest
	$(BIN)/uv pip install --quiet --python build/oldest/bin/python --resolution lowest-direct -r pyproject.toml --extra dev --extra formats
	build/oldest/bin/python -m pytest -m "not slow" $(PYTEST_ARGS)

lint: $(INSTALLED)  ## run ruff, mypy and shellcheck; changes nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/shellcheck --external-sources launch/*.sh launch/*.sbatch .ci/run

format: $(INSTALLED)  ## fix and format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(INSTALLED)  ## build the documentation site, build/docs/index.html; a warning is an error
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet -j 2 docs build/docs

links: $(INSTALLED)  ## look up every external link of the documentation site on the Internet
	$(BIN)/python -m sphinx --builder linkcheck --quiet -j 2 docs build/links

bench: $(INSTALLED)  ## run all benchmarks and write docs/BENCHMARKS.md and docs/benchmarks/deploy.md: an hour on an idle machine (needs a finished demo)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[bench]"
	mkdir -p runs/bench
	for name in experts step evaluate decode latency; do $(BIN)/python -m benchmarks.$$name --json=runs/bench/$$name.json || exit 1; done
	$(BIN)/python -m benchmarks.demo --workdir=$(WORKDIR) --json=runs/bench/demo.json
	$(BIN)/python -m benchmarks.render runs/bench/*.json > docs/BENCHMARKS.md
	$(BIN)/python -m benchmarks.deploy --models=runs/bench/models --json=runs/bench/deploy/rows.json
	$(BIN)/python -m benchmarks.render --page=benchmarks/deploy_notes.md runs/bench/deploy/rows.json > docs/benchmarks/deploy.md

# Each command skips what its folder holds, so an interrupted run goes on.
COMPARE = $(BIN)/python -m automoe_jax.compare
results: $(INSTALLED)  ## repeat the runs of docs/RESULTS.md and what is outstanding of them: some 43 hours on one core, resumes (RESULTS=runs/results)
	$(COMPARE) --configs=configs/systems,configs/controls.py:da_moe_4e3,configs/controls.py:thor_mild,configs/controls.py:rdrop_mild \
		--seeds=1,2 --workdir=runs/systems --results=$(RESULTS)/eight_epochs --baseline=dense
	$(BIN)/python -m automoe_jax.compare.rates --configs=configs/systems --rates=2e-3,4e-3,8e-3 --workdir=runs/systems \
		--results=$(RESULTS)/eight_epochs
	OMP_NUM_THREADS=1 $(BIN)/python -m automoe_jax.rank --workdir=runs/systems/random_search-1 --archs=32 --updates=875
	$(BIN)/python -m benchmarks.headline --runs=runs/systems --seeds=1,2 --repeats=15
	$(COMPARE) --configs=configs/variants --seeds=1 --workdir=runs/variants --results=$(RESULTS)/variants --baseline=dense
	$(COMPARE) --configs=configs/low_resource.py:switch,configs/low_resource.py:thor,configs/low_resource.py:switch_4e3,configs/low_resource.py:thor_4e3 --seeds=1,2 \
		--workdir=runs/low_resource --results=$(RESULTS)/low_resource --baseline=switch_4e3
	$(COMPARE) --configs=configs/low_resource_long --seeds=1 --workdir=runs/low_resource_long \
		--results=$(RESULTS)/low_resource_long --baseline=switch
	$(COMPARE) --configs=configs/classify --seeds=1,2 --workdir=runs/classify --results=$(RESULTS)/classify --baseline=top1
	$(COMPARE) --configs=configs/classify_short --seeds=1,2 --workdir=runs/classify_short --results=$(RESULTS)/classify_short --baseline=top1
	$(BIN)/python -m benchmarks.learning --workdir=runs/learning
	taskset -c 0 $(COMPARE) --configs=configs/systems.py:dense,configs/systems.py:automoe,configs/systems.py:dense_budget \
		--seeds=1,2 --workdir=runs/repeats --results=$(RESULTS)/repeats
	taskset -c 0 $(COMPARE) --configs=configs/systems.py:topk --seeds=1 --workdir=runs/repeats --results=$(RESULTS)/repeats

lock: $(INSTALLED)  ## pin the newest versions within the bounds, for every supported Python
	$(BIN)/uv pip compile pyproject.toml --extra dev --extra formats --extra docs --universal --python-version 3.11 --upgrade --no-annotate \
		--custom-compile-command "make lock" --quiet --output-file requirements.lock

resolve: $(INSTALLED)  ## check that all extras fit together, with the newest and the oldest allowed versions
	mkdir -p build
	for versions in highest lowest-direct; do $(BIN)/uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 \
		--resolution $$versions --quiet --output-file build/extras_$$versions.txt || exit 1; done

install: $(INSTALLED)  ## make the virtual environment

$(INSTALLED): requirements.lock requirements.txt pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "error: there is no '$(PYTHON)'; name a Python >= 3.11 that exists: \
	make PYTHON=/path/to/python3 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: this needs Python 3.11 or newer, \
	and '$(PYTHON)' is $$($(PYTHON) --version 2>&1); choose another: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || { echo "error: '$(PYTHON)' lacks the venv module; on Debian or Ubuntu: \
	apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

clean:  ## remove the virtual environment, caches and builds; runs/ stays
	rm -rf $(VENV) build dist *.egg-info .jax_cache .mypy_cache .pytest_cache .ruff_cache .hypothesis
