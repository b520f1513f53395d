# Two commands: `make demo` (the whole way on the built-in catalogue) and `make test`.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint types slow bench screenshots clean

demo: .venv/installed
	$(BIN)/tunebench demo

test: lint types
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m "not slow and not gpu"

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: .venv/installed-dev
	$(BIN)/mypy

slow: .venv/installed-dev
	$(BIN)/python -m pytest -m slow -o timeout=3600

bench: .venv/installed-bench
	$(BIN)/python -m tests.bench.cleaning

screenshots: .venv/installed-dev
	$(BIN)/python -m tests.tui.screenshots

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "tunebench needs Python 3.11 or newer; name one with: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

.venv/installed-bench: .venv/installed-dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	touch $@

clean:
	rm -rf .venv build dist *.egg-info
