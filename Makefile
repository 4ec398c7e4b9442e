# Everything below happens in .venv and in the cache of adk-chat; the only thing needed beforehand is Python 3.11+ with
# pip 22.3+. What is fetched is pinned, with hashes, in requirements.lock, adk_chat/dev and tests/programs.py.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && command -v $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PROGRAMS := $(VENV)/.programs
# Processes that run tests, each with servers of its own; 0 runs them where pytest is, for a debugger.
WORKERS ?= 3
PIP_INSTALL = $(PYTHON) -m pip --python $(BIN)/python install --quiet --disable-pip-version-check --no-deps
UV_COMPILE := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-strip-extras \
	--no-emit-index-url --no-header --no-annotate

.PHONY: run test check format bench chaos site dist lock clean
.DEFAULT_GOAL := run

run: $(INSTALLED)
	@$(BIN)/adk-chat dev $(if $(AGENT),"$(AGENT)") $(ARGS)

test: $(PROGRAMS)
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

check: $(INSTALLED)
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/python .ci/lock.py
	@$(BIN)/python .ci/deploy.py
	@$(BIN)/zensical build --strict --clean

format: $(INSTALLED)
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: $(INSTALLED)
	@$(BIN)/python -m benchmarks $(or $(ARGS),--write)

# Ten minutes of faults under load, and an audit: ARGS="--seconds 60 --seed 7", ARGS=--cluster.
chaos: $(PROGRAMS)
	@$(BIN)/python -m tests.chaos $(ARGS)

# venv without pip and pip from outside: Debian's python3 has no ensurepip. The lock is complete, which `make check`
# sees to, so nothing is resolved; and nothing is built but this project, by the hatchling of the lock.
$(INSTALLED): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "adk_chat needs Python 3.11 or newer on PATH (or: make PYTHON=/path/to/python)."; exit 1; }
	@echo "Setting up $(VENV) with $$($(PYTHON) --version), once ..."
	@$(PYTHON) -m venv --without-pip $(VENV)
	@$(PYTHON) -m pip --python $(BIN)/python --version >/dev/null 2>&1 || \
		{ echo "adk_chat needs pip 22.3 or newer for $(PYTHON); there is $$($(PYTHON) -m pip --version 2>&1 | tail -n 1)."; exit 1; }
	@$(PIP_INSTALL) --only-binary :all: --require-hashes -r requirements.lock
	@$(PIP_INSTALL) --no-build-isolation -e .
	@touch $@

# restate-server, Redis and Chromium, before the tests, where somebody sees that it takes a while.
$(PROGRAMS): $(INSTALLED) tests/programs.py adk_chat/dev/binary.py
	@$(BIN)/python -m tests.programs
	@touch $@

# The documentation, in site/, and open for changes at localhost:8000.
site: $(INSTALLED)
	@$(BIN)/zensical serve --strict

# The wheel and the source distribution.
dist: $(INSTALLED)
	@$(BIN)/hatchling build -d dist --clean

lock:
	@command -v uv >/dev/null || { echo "make lock needs uv on PATH: pip install uv."; exit 1; }
	$(UV_COMPILE) pyproject.toml --group dev -o requirements.lock
	$(UV_COMPILE) adk_chat/dev/node.in -o adk_chat/dev/node.lock

clean:
	rm -rf $(VENV) .adk-chat dist site
