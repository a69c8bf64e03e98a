# make demo   the whole pipeline on generated scenes, from a fresh machine
# make test   the test-suite, from a fresh machine
# Both need Python 3.11 or 3.12, gcc and make; packages are installed into .venv.

PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed
SEED ?= 0
DEMO ?= runs/demo

.PHONY: demo test lint bench clean

$(READY): setup.py constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[test,lint]"
	touch $@

demo: $(READY)
	$(BIN)/tfwsss run demo-scenes --set seed=$(SEED) --set data.seed=$(SEED) --work-dir $(DEMO)

test: $(READY)
	TF_CPP_MIN_LOG_LEVEL=2 $(BIN)/python -m pytest

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/lint-imports

bench: $(READY)
	$(BIN)/python benchmarks/randomwalk.py

clean:
	rm -rf $(VENV) build *.egg-info
