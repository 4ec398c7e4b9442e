# Everything below happens in .venv; the only thing needed beforehand is Python 3.11+ with pip.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && command -v $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: run test check format bench lock clean
.DEFAULT_GOAL := run

run: $(INSTALLED)
	@$(BIN)/adk-chat dev $(AGENT)

test: $(INSTALLED)
	@$(BIN)/python -m pytest $(ARGS)

check: $(INSTALLED)
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy

format: $(INSTALLED)
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: $(INSTALLED)
	@$(BIN)/python -m benchmarks.turn
	@$(BIN)/python -m benchmarks.streams

# venv without pip and pip from outside: Debian's python3 has no ensurepip.
$(INSTALLED): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "adk_chat needs Python 3.11 or newer on PATH (or: make PYTHON=/path/to/python)."; exit 1; }
	@echo "Setting up $(VENV) with $$($(PYTHON) --version), once ..."
	@$(PYTHON) -m venv --without-pip $(VENV)
	@$(PYTHON) -m pip --python $(BIN)/python install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(PYTHON) -m pip --python $(BIN)/python install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

lock:
	uv pip compile pyproject.toml --group dev --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-header --no-annotate -o requirements.lock

clean:
	rm -rf $(VENV) .adk-chat
