# wsss: `make demo` shows the whole chain on toy data, `make test` runs the tests.

PYTHON ?= python3
TORCH  ?= torch==2.13.0
VENV   ?= .venv

BIN   := $(VENV)/bin
READY := $(VENV)/.ready
WSSS  := $(BIN)/wsss

.DEFAULT_GOAL := help
.PHONY: help setup demo voc voc6 voc6-ae voc6-eps voc6-sipe voc6-all test lint format bench clean

help:  ## Show this help.
	@grep -hE '^[a-z0-9-]+:.*##' $(firstword $(MAKEFILE_LIST)) | sed -E 's/:.*## /\t/' | expand -t 10

setup: $(READY)  ## Make the virtual environment and install wsss in it.

# torch comes first and pinned: an open range may bring gigabytes of GPU libraries.
$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet '$(TORCH)'
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

demo: $(READY)  ## Run the whole chain on toy data and show what came out.
	@$(MAKE) --no-print-directory -f examples/toy.mk WSSS=$(abspath $(WSSS)) PYTHON=$(abspath $(BIN)/python)

voc: $(READY)  ## Run the recipe on VOC: make voc DATA=VOC2012 BACKBONE=resnet38
	@$(MAKE) --no-print-directory -f examples/voc.mk WSSS=$(abspath $(WSSS)) PYTHON=$(abspath $(BIN)/python)

voc6: $(READY)  ## The same on the 6-class subset, with settings for a CPU: make voc6 DATA=…
	@$(MAKE) --no-print-directory -f examples/voc.mk SETTINGS=cpu WSSS=$(abspath $(WSSS)) PYTHON=$(abspath $(BIN)/python)

voc6-ae: $(READY)  ## Adversarial erasing and PSL on the 6-class subset: make voc6-ae DATA=…
	@$(MAKE) --no-print-directory -f examples/ae-psl.mk SETTINGS=cpu WSSS=$(abspath $(WSSS)) PYTHON=$(abspath $(BIN)/python) $(STAGE)

voc6-eps: $(READY)  ## EPS and EPS++ on the 6-class subset: make voc6-eps DATA=…
	@$(MAKE) --no-print-directory -f examples/eps.mk SETTINGS=cpu WSSS=$(abspath $(WSSS)) PYTHON=$(abspath $(BIN)/python)

voc6-sipe: $(READY)  ## SIPE on the 6-class subset: make voc6-sipe DATA=…
	@$(MAKE) --no-print-directory -f examples/sipe.mk SETTINGS=cpu WSSS=$(abspath $(WSSS)) PYTHON=$(abspath $(BIN)/python)

voc6-all: $(READY)  ## All methods on the 6-class subset, and one table: make voc6-all DATA=…
	@$(MAKE) --no-print-directory -f examples/all.mk SETTINGS=cpu WSSS=$(abspath $(WSSS)) PYTHON=$(abspath $(BIN)/python)

test: $(READY)  ## Run all tests.
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto

lint: $(READY)  ## Check style and types.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)  ## Put the code into form.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)  ## Print speed and memory beside the plain way.
	@for file in tests/benchmarks/bench_*.py; do $(BIN)/python $$file || exit 1; done

clean:  ## Remove what demo, test and setup made.
	rm -rf demo $(VENV) .pytest_cache .ruff_cache .mypy_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
