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
