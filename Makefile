# Set-up and checks. `make demo` and `make test` need Python 3.10 or newer and nothing else.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
DEMO_CLIP := examples/clips/coffee-left-to-right.mp4

.PHONY: demo test test-all generate format clean

demo: $(VENV)/.runtime
	mkdir -p build
	$(BIN)/zoo predict $(DEMO_CLIP) --sheet build/demo.png
	@echo "The frames it saw are drawn in build/demo.png."

# That generated files are up to date is one of the tests.
test: $(VENV)/.test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2 -m "not slow and not peer"

test-all: $(VENV)/.peers test
	$(BIN)/python -m pytest -n 2 -m "slow or peer"

generate: $(VENV)/.runtime
	$(BIN)/python -m zoo._generate

format: $(VENV)/.test
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(VENV)/.runtime: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) --editable .
	touch $@

$(VENV)/.test: $(VENV)/.runtime
	$(INSTALL) --editable '.[test]'
	touch $@

$(VENV)/.peers: $(VENV)/.test
	$(INSTALL) --editable '.[test,peers]'
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
