# make demo          the whole pipeline on generated scenes, from a fresh machine
# make test          the test-suite, from a fresh machine
# make test-addons   what depends on TensorFlow, on the second stack (TensorFlow 2.15, Keras 2, tensorflow-addons; docs/stacks.md)
# The first two need Python 3.11, 3.12 or 3.13, the third 3.11; all need make, and no compiler. Packages are installed into
# .venv and .venv-addons. TESTS="tests/data tests/test_cam.py" runs a part of the suite, PROCESSES=4 more of it at the same time,
# COVERAGE=1 prints which lines and branches of each module the suite has run.
# make tritonserver  NVIDIA's Triton, 140 MB of packages in .triton, for tests/triton, which skip without it (Linux on x86-64, Python 3.11 or 3.12)
# make lint          style, the rules on who imports whom, and static types
# make format        what lint can mend by itself: order of imports, outdated syntax

PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
ADDONS_PYTHON ?= python3.11
VENV ?= .venv
ADDONS_VENV ?= .venv-addons
BIN := $(VENV)/bin
ADDONS_BIN := $(ADDONS_VENV)/bin
READY := $(VENV)/.installed
ADDONS_READY := $(ADDONS_VENV)/.installed
SEED ?= 0
DEMO ?= runs/demo
TESTS ?=
PROCESSES ?= 2
COVERAGE ?=
# What runs without TensorFlow, or does with it what does not depend on its version: once, on the first stack, is enough.
# Ray is installed beside the first stack only; on the second its tests say that they are skipped.
ANY_STACK = benchmarks chaos config data/formats densecrf exchange export/runtimes export/test_cpp_loader.py export/test_hostile.py fuzz \
	mlflow_models pipelines/bench pipelines/deployment $(addprefix pipelines/engine/test_,failures.py outage.py outbox.py ownership.py shards.py stage.py startup.py \
	terminal.py tracking.py) pipelines/executors pipelines/preflight pipelines/proposal pipelines/stages/test_export_versions.py \
	pipelines/stages/test_without_masks.py pipelines/test_knowledge.py pipelines/test_supervised.py report serving triton test_architecture.py \
	test_documentation.py weights/test_budgets.py weights/test_hostile.py
PYTEST = -m pytest --numprocesses $(PROCESSES) --max-worker-restart 0 $(if $(COVERAGE),--cov --cov-report=term)

# Tests compare the dense CRF with pydensecrf, which has no wheels: where a compiler and Python's headers are, it is built.
HEADERS = import os, sysconfig; print(os.path.join(sysconfig.get_path("include"), "Python.h"))
PYDENSECRF = $(shell command -v c++ >/dev/null && test -e "$$($(1) -c '$(HEADERS)')" && echo ,pydensecrf)

.PHONY: install install-addons tritonserver demo test test-addons lint format bench clean

$(READY): setup.py constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[test,lint,ray$(call PYDENSECRF,$(PYTHON))]"
	touch $@

$(ADDONS_READY): setup.py constraints-addons.txt
	test -x $(ADDONS_BIN)/python || $(ADDONS_PYTHON) -m venv $(ADDONS_VENV)
	$(ADDONS_BIN)/python -m pip install --quiet --constraint constraints-addons.txt --editable ".[addons,test$(call PYDENSECRF,$(ADDONS_PYTHON))]"
	touch $@

# Of nvidia-pytriton only the server is taken. The packages are those that the bundle's Dockerfile installs.
.triton/.installed: constraints-triton.txt
	test -x .triton/bin/python || $(PYTHON) -m venv .triton
	.triton/bin/python -m pip install --quiet --no-deps --only-binary :all: --requirement $<
	touch $@

install: $(READY)
install-addons: $(ADDONS_READY)
tritonserver: .triton/.installed

demo: $(READY)
	$(BIN)/tfwsss run demo-scenes --set seed=$(SEED) --set data.seed=$(SEED) --work-dir $(DEMO)

# Where the other stack is installed too, its Python takes part: weights and exports are exchanged.
test: $(READY)
	TF_CPP_MIN_LOG_LEVEL=2 TFWSSS_OTHER_PYTHON=$(if $(wildcard $(ADDONS_READY)),$(abspath $(ADDONS_BIN)/python)) \
		$(BIN)/python $(PYTEST) $(TESTS)

test-addons: $(ADDONS_READY)
	TF_CPP_MIN_LOG_LEVEL=2 $(ADDONS_BIN)/python $(PYTEST) $(or $(TESTS),$(addprefix --ignore=tests/,$(ANY_STACK)))

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/python .ci/types.py

format: $(READY)
	$(BIN)/ruff check --fix .

bench: $(READY)
	$(BIN)/python benchmarks/randomwalk.py
	$(if $(RUN),$(BIN)/python benchmarks/labels.py $(CONFIG) $(RUN) $(PHOTOS))

clean:
	rm -rf $(VENV) $(ADDONS_VENV) build *.egg-info
