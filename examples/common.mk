# What voc.mk and papers.mk share: the shell, the data, and when a stage has changed.

RECIPES := $(dir $(lastword $(MAKEFILE_LIST)))

SHELL       := bash
.SHELLFLAGS := $(RECIPES)timed.sh
.DELETE_ON_ERROR:

WSSS     ?= wsss
PYTHON   ?= python3
TRAIN    ?= train_aug
SALIENCY ?= Saliency
CLASSES  ?= voc

ifndef DATA
$(error give the folder of the data set: DATA=VOC2012)
endif

# timed.sh writes the time of each command here.
export TIMES = $(RUN)/times.tsv

.PHONY: ALWAYS

# $(call SETTINGS,WSSS,COMMAND,OPTIONS): what is in force for a command, and options on top of it. One
# that the command does not have stops make: --help reads the names of the options before it.
SETTINGS = $(if $(strip $(3)),$(1) $(2) $(3) --help > /dev/null;) $(1) config $(2); printf '%s\n' '$(subst ','\'',$(3))'

# $(call CHOSEN,IDS): the records of $< whose id is in a file of records; grep finds them by the id,
# with which each line begins.
CHOSEN = cut -d, -f1 $(1) | { grep -F -f - $< || { echo "make: no photograph of $(1) is in $<" >&2; exit 1; }; }

# $(call IF_CHANGED,COMMAND): the output of a quick COMMAND is the target, unless it already is.
# Two recipes at once in one RUN both write it: hence the number of the process. A trap, since after
# `COMMAND ||` the shell would no longer stop at the first failure inside COMMAND.
NEW        = $@.$$$$.new
IF_CHANGED = trap 'rm -f $(NEW)' ERR; $(1) > $(NEW); if cmp -s $(NEW) $@; then rm $(NEW); else mv $(NEW) $@; fi

# ---- seeds ----

# SEEDS="0 1 2" runs the recipe once for each in RUN/seed0, RUN/seed1 …, and prints one table of all:
# mean ± standard deviation. One seed alone is that of all trainings in RUN itself; without any they
# have their own. All that a recipe makes depends on the seed but for the lists of records.
TRAINERS := TRAIN_CAM EPS_TRAIN SIPE_TRAIN TRAIN_AFF IRN_TRAIN TRAIN_SEG

ifneq ($(words $(SEEDS)),$(words $(sort $(SEEDS))))
$(error SEEDS names a seed twice: $(SEEDS))
endif
ifeq ($(words $(SEEDS)),1)
# As a setting, so that what has changed is seen, and that --seed in an option overrides it.
$(foreach trainer,$(TRAINERS),$(eval export WSSS_$(trainer)_SEED := $(strip $(SEEDS))))
endif

# $(call TABLE,ROWS): the table of one run; of one among several it is left to `seeds`.
TABLE = $(if $(AMONG_SEEDS),,@$(PYTHON) $(RECIPES)table.py $(RUN) $(1))

ifneq ($(word 2,$(SEEDS)),)
ifneq ($(filter-out seeds,$(MAKECMDGOALS)),)
$(error give one seed to make $(MAKECMDGOALS), not $(SEEDS))
endif
.DEFAULT_GOAL := seeds
unexport TIMES  # each run writes its own
RECIPE := $(firstword $(MAKEFILE_LIST))

.PHONY: seeds $(SEEDS:%=seed-%)
seeds: $(SEEDS:%=seed-%)
	@$(PYTHON) $(RECIPES)table.py --seeds '$(SEEDS)' $(RUN) $(TABLE_ROWS)

$(SEEDS:%=seed-%): seed-%:
	@$(MAKE) --no-print-directory -f $(RECIPE) SEEDS=$* RUN=$(RUN)/seed$* AMONG_SEEDS=1
endif
