# A paper from labels to a trained network, and its figures beside ours, on the whole of VOC on a GPU.
#
#   make voc-psa DATA=VOC2012     or voc-ae, voc-eps, voc-eps++, voc-irn, voc-sipe
#
# All settings stand in papers/PAPER.toml; a variable with the name of a command adds options to it:
# make voc-psa DATA=VOC2012 train-cam='--weights /data/resnet38.params'. Each stage writes a file in
# RUN, and runs again if a setting of its command, a label in DATA or an earlier stage has changed;
# an interrupted training goes on. AE-PSL, EPS and EPS++ need saliency maps in DATA/$(SALIENCY). The
# true masks of `train` and `val` are used to measure only.

include $(dir $(lastword $(MAKEFILE_LIST)))common.mk

CONFIG := $(RECIPES)papers/$(PAPER).toml
ifeq ($(wildcard $(CONFIG)),)
$(error PAPER is one of $(basename $(notdir $(wildcard $(RECIPES)papers/*.toml))), not '$(PAPER)')
endif
RUN    ?= runs/$(notdir $(patsubst %/,%,$(DATA)))/$(PAPER)
SET    := $(WSSS) --config $(CONFIG)

# NAME=PUBLISHED:SPLIT:TITLE, see table.py.
ROWS_psa    := 'cam=48.0:train:CAM, best threshold' 'pseudo=58.1:train:random walk (61.0 of the public code)' \
	'seg=61.7:val:network'
ROWS_ae-psl := 'cam:train:CAM, best threshold' 'pseudo:train:mined in 3 steps, merged with saliency' \
	'seg=55.0:val:network with PSL'
ROWS_eps    := 'pseudo=69.4:train:maps, cut' 'seg=70.9:val:network, DeepLab v2'
ROWS_eps++  := 'pseudo:train:maps, cut' 'seg=71.7:val:network'
ROWS_irn    := 'cam=48.3:train:CAM, best threshold' 'pseudo=66.5:train:random walk' 'seg=63.5:val:network'
ROWS_sipe   := 'cam=58.65:train:image-specific CAM' 'pseudo:train:IRNet, random walk' \
	'seg=68.8:val:network'

TABLE_ROWS = $(ROWS_$(PAPER))

.PHONY: table
table: $(foreach row,$(filter '%,$(ROWS_$(PAPER))),$(RUN)/$(firstword $(subst =, ,$(subst :, ,$(subst ',,$(row))))).json)
	$(call TABLE,$(ROWS_$(PAPER)))

# ---- what has changed ----

# The file RUN/settings/COMMAND is new when a setting of COMMAND is another than in the run before.
$(RUN)/settings/%: ALWAYS
	@mkdir -p $(@D)
	@$(call IF_CHANGED,{ $(call SETTINGS,$(SET),$*,$($*)); })

# $(call SETTINGS_OF,COMMAND…): those files, as prerequisites.
SETTINGS_OF = $(addprefix $(RUN)/settings/,$(1))

# $(call CALL,COMMAND,ARGUMENTS): a command with the settings of the paper.
CALL = $(strip $(SET) $(1) $(2) $($(1)))

# Every trainer: goes on where it was interrupted, and trains anew where something has changed.
TRAINED = $(call CALL,$(1),$(2) --resume --replace -o $@) && touch $@

# ---- records ----

NEEDS_SALIENCY := $(filter ae-psl eps eps++,$(PAPER))

$(RUN)/train.jsonl $(RUN)/val.jsonl: $(RUN)/%.jsonl: ALWAYS
	@mkdir -p $(RUN)
	$(call IF_CHANGED,$(WSSS) index voc $(DATA) --split $* -q)

$(RUN)/start.jsonl: ALWAYS
	@mkdir -p $(RUN)
	$(call IF_CHANGED,$(WSSS) index voc $(DATA) --split $(TRAIN) $(and $(NEEDS_SALIENCY),--saliency $(SALIENCY)) -q)

# ---- labels -> maps ----

CLASSIFIER := $(or $(and $(filter eps%,$(PAPER)),eps-train),$(and $(filter sipe,$(PAPER)),sipe-train),train-cam)
WALKING    := $(filter psa irn sipe,$(PAPER))
RELATIONS  := $(if $(filter psa,$(PAPER)),train-aff,irn-train)

# Options of later commands are looked at before the first training.
REFINERS := $(or $(and $(WALKING),make-aff-labels $(RELATIONS) random-walk),$(and $(filter eps%,$(PAPER)),crf),erase)
LATER    := $(call SETTINGS_OF,make-cam $(REFINERS) train-seg predict)

# Weights of a training that cannot be had stop the first. AffinityNet's backbone is the classifier's.
$(RUN)/weights: $(call SETTINGS_OF,$(and $(WALKING),$(CLASSIFIER) $(RELATIONS)) train-seg)
	$(PYTHON) $(RECIPES)weights.py $^
	@touch $@

$(RUN)/cam.pt: $(RUN)/start.jsonl $(call SETTINGS_OF,$(CLASSIFIER)) | $(RUN)/weights $(LATER)
	$(call TRAINED,$(CLASSIFIER),$<)

$(RUN)/cam.jsonl: $(RUN)/cam.pt $(call SETTINGS_OF,make-cam)
	$(call CALL,make-cam,$(RUN)/start.jsonl -c $< --skip-existing -o $(RUN)/cam) > $@

# ---- maps -> masks ----

ifneq ($(WALKING),)
$(RUN)/aff_label.jsonl: $(RUN)/cam.jsonl $(call SETTINGS_OF,make-aff-labels)
	$(call CALL,make-aff-labels,$< --skip-existing -o $(RUN)/aff_label) > $@

$(RUN)/aff.pt: $(RUN)/aff_label.jsonl $(RUN)/cam.pt $(call SETTINGS_OF,$(RELATIONS))
	$(call TRAINED,$(RELATIONS),$< $(if $(filter train-aff,$(RELATIONS)),-c $(RUN)/cam.pt))

$(RUN)/pseudo.jsonl: $(RUN)/aff.pt $(call SETTINGS_OF,random-walk)
	$(call CALL,random-walk,$(RUN)/aff_label.jsonl -c $< --skip-existing -o $(RUN)/pseudo) > $@
else ifneq ($(filter eps%,$(PAPER)),)
$(RUN)/pseudo.jsonl: $(RUN)/cam.jsonl $(call SETTINGS_OF,crf)
	$(call CALL,crf,$< --skip-existing -o $(RUN)/pseudo) > $@
else
$(RUN)/step1.jsonl: $(RUN)/cam.jsonl $(call SETTINGS_OF,erase)
	$(call CALL,erase,$< --skip-existing -o $(RUN)/step1) > $@

# $(call STEP,NUMBER,BEFORE): a classifier trained from the start on what step BEFORE has left.
define STEP
$(RUN)/step$(1)/cam.pt: $(RUN)/step$(2).jsonl $(call SETTINGS_OF,train-cam)
	$$(call TRAINED,train-cam,$$< --image-key erased)

$(RUN)/step$(1).jsonl: $(RUN)/step$(1)/cam.pt $(call SETTINGS_OF,make-cam erase)
	$$(call CALL,make-cam,$(RUN)/step$(2).jsonl --image-key erased -c $$< --skip-existing -o $(RUN)/step$(1)/cam) | \
		$$(call CALL,erase,--skip-existing -o $(RUN)/step$(1)) > $$@
endef
$(eval $(call STEP,2,1))
$(eval $(call STEP,3,2))

$(RUN)/pseudo.jsonl: $(RUN)/step3.jsonl
	cp $< $@
endif

# ---- masks -> network ----

$(RUN)/seg.pt: $(RUN)/pseudo.jsonl $(call SETTINGS_OF,train-seg)
	$(call TRAINED,train-seg,$<)

# ---- the mIoU of each stage ----

EVAL := $(SET) eval --classes $(CLASSES) --format json

$(RUN)/cam.json $(RUN)/pseudo.json: $(RUN)/%.json: $(RUN)/%.jsonl $(RUN)/train.jsonl
	$(call CHOSEN,$(RUN)/train.jsonl) | $(EVAL) --key $* > $@

$(RUN)/seg.json: $(RUN)/seg.pt $(RUN)/val.jsonl $(call SETTINGS_OF,predict)
	$(call CALL,predict,$(RUN)/val.jsonl -c $< --skip-existing -o $(RUN)/pred) | $(EVAL) --key pred > $@
