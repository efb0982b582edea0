# How the random walk depends on its beta, number of steps and alpha (figure 8 of Ahn & Kwak 2018), and
# on its floor: each in turn, the others as in CONFIG. Nothing before the walk is made again.
#
#   make sweep DATA=voc6     the 6-class subset on a CPU
#   make sweep DATA=voc6 BETAS='4 8' STEPS= ALPHAS= FLOORS=
#
# Measured on the photographs of SPLIT, a list of DATA, all of them among those of TRAIN. Settings
# that were chosen so are to be measured on others.

.PHONY: sweep
sweep: sweep-table

include $(dir $(lastword $(MAKEFILE_LIST)))voc.mk

ifneq ($(word 2,$(SEEDS)),)
$(error a sweep is of one seed, not of $(SEEDS))
endif

SPLIT  ?= train
BETAS  ?= 1 2 4 8 12 16
STEPS  ?= 1 4 16 64 256 1024
ALPHAS ?= 1 2 4 8 16 24
FLOORS ?= 0 0.3 0.4 0.5 0.6
SWEEP  := $(RUN)/sweep/$(SPLIT)

SWEPT := $(BETAS:%=$(SWEEP)/beta-%.json) $(STEPS:%=$(SWEEP)/steps-%.json) $(ALPHAS:%=$(SWEEP)/alpha-%.json) \
	$(FLOORS:%=$(SWEEP)/floor-%.json)

ifeq ($(strip $(SWEPT)),)
$(error give a value to try: BETAS, STEPS, ALPHAS or FLOORS)
endif

.PHONY: sweep-table
sweep-table: $(SWEPT)
	@$(PYTHON) $(RECIPES)sweep.py $(SWEEP) $^

ifneq ($(filter-out train val $(TRAIN),$(SPLIT)),)
$(RUN)/$(SPLIT).jsonl:
endif

# $(call WALK_WITH,OPTION): the walk of the measured photographs with one setting, and its mIoU.
define WALK_WITH
$(SWEEP)/$(1)-%.json: $(RUN)/aff_label.jsonl $(RUN)/aff.pt $(RUN)/$(SPLIT).jsonl $(call SETTINGS_OF,WALK)
	@mkdir -p $$(@D)
	$$(call CHOSEN,$(RUN)/$(SPLIT).jsonl) | $$(SET) random-walk -c $(RUN)/aff.pt $$(WALK) --$(1) $$* --skip-existing -o $(SWEEP)/$(1)-$$* | $$(EVAL) --key pseudo > $$@
endef
$(foreach option,beta steps alpha floor,$(eval $(call WALK_WITH,$(option))))
