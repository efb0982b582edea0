# wsss: `make demo` shows the whole chain on toy data, `make test` runs the tests.

PYTHON ?= python3
TORCH  ?= torch          # e.g. TORCH=torch==2.13.0 to pin a build
VENV   ?= .venv

BIN   := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup demo voc voc6 test lint format bench clean

help:  ## Show this help.
	@grep -hE '^[a-z0-9]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

setup: $(READY)  ## Make the virtual environment and install wsss in it.

