# wsss: `make demo` shows the whole chain on toy data, `make test` runs the tests.

PYTHON ?= python3
TORCH  ?= torch==2.13.0
VENV   ?= .venv

BIN   := $(VENV)/bin
READY := $(VENV)/.ready
WSSS  := $(BIN)/wsss

.DEFAULT_GOAL := help

# The methods with a recipe of their own, examples/NAME.mk, and `all`, which compares them.
NAMES := $(filter-out common voc toy papers sweep all,$(basename $(notdir $(wildcard examples/*.mk)))) all

# The papers of which there are settings, examples/papers/NAME.toml, but for the name of AE-PSL.
PAPERS := psa ae eps eps++ irn sipe

.PHONY: help setup demo voc voc6 $(PAPERS:%=voc-%) voc-all $(NAMES:%=voc6-%) \
	sweep test lint format bench faults man clean

help:  ## Show this help.
	@sed -nE 's/^[$$].*: (voc6?-)%:/\1NAME:/; s/^([a-zA-Z0-9-]+):.*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 11
	@echo 'NAME is one of: $(PAPERS) all for voc, $(NAMES) for voc6'

setup: $(READY)  ## Make the virtual environment and install wsss in it.

# torch first, at a fixed version: any other may install gigabytes of GPU libraries.
$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet '$(TORCH)'
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

# What every recipe in examples/ is called with.
TOOLS = --no-print-directory WSSS=$(abspath $(WSSS)) PYTHON=$(abspath $(BIN)/python)

demo: $(READY)  ## Run the whole chain on toy data and print its table.
	@$(MAKE) $(TOOLS) -f examples/toy.mk

voc: voc-psa

$(PAPERS:%=voc-%): voc-%: $(READY)  ## A paper on VOC, on a GPU: make voc-psa DATA=VOC2012
	@$(MAKE) $(TOOLS) -f examples/papers.mk PAPER=$(patsubst ae,ae-psl,$*)

voc-all: $(PAPERS:%=voc-%)  ## All papers on VOC, one after another.

voc6: $(READY)  ## CAM and AffinityNet on the 6-class subset, on a CPU: make voc6 DATA=voc6
	@$(MAKE) $(TOOLS) -f examples/voc.mk

$(NAMES:%=voc6-%): voc6-%: $(READY)  ## Another method on the 6-class subset, on a CPU: make voc6-eps DATA=voc6
	@$(MAKE) $(TOOLS) -f examples/$*.mk

sweep: $(READY)  ## The walk's beta, steps and alpha, one by one, after voc6: make sweep DATA=voc6
	@$(MAKE) $(TOOLS) -f examples/sweep.mk

# Any other name.
voc-%:
	$(error there is no recipe for '$@'; NAME is one of: $(PAPERS) all)
voc6-%:
	$(error there is no recipe for '$@'; NAME is one of: $(NAMES))

test: $(READY)  ## Run all tests.
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto

lint: $(READY)  ## Check style and types.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)  ## Format the code and fix what ruff can fix.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)  ## Measure speed and memory against a simple implementation.
	@for file in tests/benchmarks/bench_*.py; do PYTHONPATH=. $(BIN)/python $$file || exit 1; done

faults: $(READY)  ## Inject faults for up to 15 minutes: kills, damage, hostile records, full disks.
	@$(BIN)/python -m tests.faults

# click-man sees no command that is loaded when it is called, and cuts their first lines short.
define MAN_PAGES
import re
from pathlib import Path
from click_man.core import write_man_pages
from wsss_cli import __version__
from wsss_cli.cli import COMMANDS, cli
cli.commands = {name: cli.get_command(None, name) for name in COMMANDS}
for command in (cli, *cli.commands.values()):
    for each in (command, *getattr(command, "commands", {}).values()):
        each.short_help = each.help.partition("\n\n")[0].replace("\n", " ")
Path("build/man").mkdir(parents=True, exist_ok=True)
write_man_pages("wsss", cli, version=__version__, target_dir="build/man")
for page in Path("build/man").iterdir():  # examples to copy keep their lines
    text = re.sub(r"^(Examples?:\n(?:  .*\n)+)", r".nf\n\1.fi\n", page.read_text(), flags=re.M)
    page.write_text(text)
endef
export MAN_PAGES

man: $(READY)  ## Write a manual page for each command to build/man, from its help.
	@$(BIN)/python -m pip install --quiet click-man
	@$(BIN)/python -c "$$MAN_PAGES"
	@echo 'build/man: man -l build/man/wsss-make-cam.1'

clean:  ## Remove the files of demo, test and setup.
	rm -rf demo build/man $(VENV) .pytest_cache .ruff_cache .mypy_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
