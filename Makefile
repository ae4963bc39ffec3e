# The daily commands. `make` alone sets up what is missing and runs all checks.
PYTHON ?= python3
BIN = .venv/bin
export CMAKE_ARGS ?= -DCMAKE_PROJECT_llama_cpp_INCLUDE='$(CURDIR)/chat/llama/build.cmake'

.PHONY: all setup kernels format check fast test site

all: check test

setup: $(BIN)/pytest

$(BIN)/pytest: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -e '.[test]'
	touch $@

kernels: setup  ## compile the fast kernels of `convert` again
	$(BIN)/pip install --no-deps -e .

format: setup  ## format the code and sort its imports
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

check: setup  ## lint and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/mypy --platform darwin
	$(BIN)/mypy --platform win32

fast: setup  ## the tests that take no longer than about a second each
	$(BIN)/pytest -n 3 -m "not slow"

test: setup  ## all tests
	$(BIN)/pytest -n 3

site: $(BIN)/mkdocs  ## the documentation, in build/site; a dead link is an error
	$(BIN)/mkdocs build --strict -f docs/mkdocs.yml

$(BIN)/mkdocs: $(BIN)/pytest
	$(BIN)/pip install -e '.[docs]'
	touch $@
