# `make` lists the targets. The virtual environment is .venv in the clone; what
# goes into it is fixed by requirements.lock and redone only when that changes.

PORT ?= $(or $(QUICKSTUDY_PORT),8000)
# The first interpreter that is 3.11 to 3.13 and can make virtual environments.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' \
	2>/dev/null && echo $$python && break; done)
# An index of PyTorch builds to use beside PyPI, whose Linux build is CUDA's, of
# several GB: make setup TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu
TORCH_INDEX_URL ?=

# Tests wait for servers and databases a third of their time: one worker more than processors.
TESTERS ?= $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)

PIP_AUDIT := 2.10.1
UV := 0.13.9
# Known vulnerabilities that do not touch us, each with its reason in SECURITY.md.
NOT_AFFECTED :=

BIN := .venv/bin
INSTALL = $(BIN)/pip install --quiet --disable-pip-version-check -c requirements.lock
SERVICE := .venv/.installed-service
EVERYTHING := .venv/.installed-everything

.DEFAULT_GOAL := help
.PHONY: help setup serve test torture lint client manifests docs lock audit train demo bench

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(EVERYTHING) ## Make .venv with everything: service, training, rivals, tests

serve: $(SERVICE) ## Serve on http://127.0.0.1:8000; PORT=9000 for another port
	$(BIN)/quickstudy serve --port $(PORT)

# Tests start hundreds of processes: each would compile the service anew where none keeps its bytecode.
# Those that run alone are in few files: to import all the others takes twice as long.
test: export PYTHONDONTWRITEBYTECODE =
test: $(EVERYTHING) ## Run every test, on SQLite and on PostgreSQL
	$(BIN)/python -m pytest -m 'not alone' --numprocesses $(TESTERS) --maxprocesses 4 --dist worksteal
	$(BIN)/python -m pytest -m alone $$(grep -rl --include='test_*.py' 'mark\.alone' tests)

torture: $(EVERYTHING) ## Run the reliability suite in full, about an hour, and write docs/reliability.md
	QUICKSTUDY_TORTURE=1 $(BIN)/python -m pytest tests/reliability
	QUICKSTUDY_TORTURE=1 $(BIN)/python -m pytest -m torture --ignore tests/reliability
	$(BIN)/python -m tests.reliability.figures

lint: $(EVERYTHING) ## Check style, formatting, types and the directions of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

client: $(EVERYTHING) ## Write the Python client's models and its synchronous half
	$(BIN)/python -m clients.python.generate

manifests: $(EVERYTHING) ## Write the manifests of deploy/kubernetes/ by the chart (needs helm)
	$(BIN)/python -m deploy.generate

docs: $(EVERYTHING) ## Write the pages that the code knows, and build the site of docs/ into build/site
	$(BIN)/python -m docs.generate
	$(BIN)/zensical build --clean --strict

# The CUDA packages of one build of PyTorch are in uv.lock alone: another build needs others.
lock: $(BIN)/pip ## Lock pyproject.toml: uv.lock with hashes, and requirements.lock of it (needs the internet)
	mkdir -p build && $(BIN)/python -m venv build/uv
	build/uv/bin/pip install --quiet --disable-pip-version-check uv==$(UV)
	build/uv/bin/uv lock
	{ grep '^#' requirements.lock; build/uv/bin/uv export --quiet --frozen --no-hashes --no-header --no-annotate \
		--no-emit-project --all-extras --all-groups | grep -vE '^(cuda|nvidia|triton)-?'; } > build/requirements.lock
	mv build/requirements.lock requirements.lock

audit: $(BIN)/pip ## Look every locked dependency up among the known vulnerabilities (needs the internet)
	python=$$(mktemp -d) && trap 'rm -rf "$$python"' EXIT && $(BIN)/python -m venv "$$python" \
		&& "$$python"/bin/pip install --quiet --disable-pip-version-check pip-audit==$(PIP_AUDIT) \
		&& "$$python"/bin/pip-audit --strict --disable-pip --no-deps --requirement requirements.lock \
		$(addprefix --ignore-vuln ,$(NOT_AFFECTED))

train: $(EVERYTHING) ## Rebuild the shipped checkpoint, models/default, from the simulator; START=MODEL goes on from one
	mkdir -p build
	$(BIN)/quickstudy simulate --accounts 16000 --out build/simulated.parquet
	$(BIN)/quickstudy train --data build/simulated.parquet --spec simulated --out models/default $(if $(START),--start $(START),--global-steps 3000 --meta-steps 300) --no-trees --heed 8 --review-cost 1 --fraud-cost 12 --wrong-decline-cost 4

demo: $(SERVICE) ## Score, label three, score again: before and after in a table
	$(BIN)/quickstudy demo

bench: $(EVERYTHING) ## Run every benchmark in benchmarks/ and write docs/benchmarks.md
	set -e; for benchmark in throughput profiling storing growth lists meta_step adaptation reasons ablation tables; do \
		$(if $(TORCH_INDEX_URL),PIP_EXTRA_INDEX_URL=$(TORCH_INDEX_URL)) $(BIN)/python -m benchmarks.$$benchmark; done

# pip is the last thing that venv puts in place, so an interrupted one is redone.
$(BIN)/pip:
	@test -n "$(PYTHON)" || { echo "Python 3.11 to 3.13 with its venv module is needed" \
		"(on Debian and Ubuntu: apt-get install python3 python3-venv)." >&2; exit 1; }
	$(PYTHON) -m venv .venv

# setuptools and Cython first: the project itself is built by the locked ones, without the
# download of unpinned ones into a build environment of its own.
$(SERVICE): pyproject.toml requirements.lock $(wildcard app/learner/kernels/*.pyx app/learner/kernels/*.pxd) | $(BIN)/pip
	@$(CC) --version >/dev/null 2>&1 || { echo "A C compiler is needed" \
		"(on Debian and Ubuntu: apt-get install gcc libc6-dev python3-dev)." >&2; exit 1; }
	@echo "Installing the service into .venv ..."
	$(INSTALL) setuptools Cython
	$(INSTALL) --no-build-isolation --editable .
	@touch $@

$(EVERYTHING): $(SERVICE) clients/python/pyproject.toml
	@echo "Installing what training, rivals and tests need beside it (PyTorch is most of it) ..."
	$(INSTALL) $(if $(TORCH_INDEX_URL),--extra-index-url $(TORCH_INDEX_URL)) --no-build-isolation --editable '.[dev]' --editable clients/python
	@touch $@
