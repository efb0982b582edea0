# From image-level labels to a trained segmentation network (CAM, AffinityNet, DeepLab), on any data
# set in VOC's layout. The recipes of the other methods include this file.
#
#   make voc6 DATA=voc6     the 6-class subset on a CPU; as the papers do it: papers.mk
#
# Each stage writes a file in RUN. A stage is skipped if nothing that it depends on has changed: a
# setting of its command in CONFIG, a label in DATA, the result of an earlier stage. Options on top of
# CONFIG stand in variables, and what follows from them is made again: make voc6 DATA=voc6
# WALK='--beta 4'. An interrupted training resumes. SEEDS="0 1 2" runs all with each seed: common.mk.
# A photograph or mask replaced under its old name is noticed once the stage runs: `make -B` runs all,
# and keeps what is still right. TRAIN is the split to train on. The true masks of `train` and `val` are used to measure
# only, those of TRAIN only to train the network with full supervision (the ceiling).

include $(dir $(lastword $(MAKEFILE_LIST)))common.mk

CONFIG ?= $(RECIPES)cpu.toml
RUN    ?= runs/voc6

# Options on top of CONFIG, and the command that each is of. BACKBONE and WEIGHTS are those of the
# classifier and of the segmentation network. Other families than EfficientNet have other stages to
# freeze: BACKBONE=resnet50 TRAIN_CAM='--freeze-until layer2'.
BACKBONE_OPTIONS := $(if $(BACKBONE),--backbone $(BACKBONE)) $(if $(WEIGHTS),--weights $(WEIGHTS))
OF_TRAIN_CAM := train-cam
OF_SCALES    := make-cam
OF_AFF_LABEL := make-aff-labels
OF_TRAIN_AFF := train-aff
OF_WALK      := random-walk
OF_TRAIN_SEG := train-seg
OF_PREDICT   := predict
OF_CRF       := crf

# A command with the settings of CONFIG.
SET := $(WSSS) --config $(CONFIG)

# The walk of maps that have a background of their own, where a floor has not been measured.
OWN_WALK     = --floor 0 $(WALK)
OF_OWN_WALK := random-walk

ROWS := 'cam:train:CAM, best threshold' \
	'crf:train:CAM + dense CRF' \
	'walk:train:CAM + AffinityNet, random walk' \
	'weak:val:network trained on the pseudo-masks' \
	'full:val:network trained on the true masks (ceiling)' \
	'weak%full:val:weak / full supervision'

TABLE_ROWS = $(ROWS)

.PHONY: table
table: $(RUN)/cam.json $(RUN)/crf.json $(RUN)/walk.json $(RUN)/weak.json $(RUN)/full.json
	$(call TABLE,$(ROWS))

# ---- what has changed ----

# The file RUN/settings/NAME is new when the variable NAME, or a setting of the command that it is
# of, has another value than in the run before.
$(RUN)/settings/%: ALWAYS
	@mkdir -p $(@D)
	@$(call IF_CHANGED,{ $(if $(OF_$*),$(call SETTINGS,$(or $(SET_$*),$(SET)),$(OF_$*),$($*)),printf '%s\n' '$(subst ','\'',$($*))'); })

# Named here, make does not take it for an intermediate file, to be deleted in the end.
$(RUN)/settings/PREDICT:

# $(call SETTINGS_OF,NAME…): those files, as prerequisites.
SETTINGS_OF = $(addprefix $(RUN)/settings/,$(1)) $(if $(filter CLASSES,$(1)),$(wildcard $(CLASSES)))

# Options of later stages are looked at before the first training.
LATER := $(call SETTINGS_OF,SCALES AFF_LABEL TRAIN_AFF WALK TRAIN_SEG PREDICT CRF)

# Every trainer: goes on where it was interrupted, and trains anew where something has changed.
RESUME = --resume --replace -o $@ && touch $@

# ---- records ----

$(RUN)/%.jsonl: ALWAYS
	@mkdir -p $(RUN)
	$(call IF_CHANGED,$(WSSS) index voc $(DATA) --split $* -q)

$(RUN)/val.jsonl $(RUN)/train.jsonl $(RUN)/$(TRAIN).jsonl:

# ---- image-level labels -> CAMs -> affinities -> pseudo-masks -> network ----

$(RUN)/cam.pt: $(RUN)/$(TRAIN).jsonl $(call SETTINGS_OF,CLASSES BACKBONE_OPTIONS TRAIN_CAM) | $(LATER)
	$(SET) train-cam $< --classes $(CLASSES) $(BACKBONE_OPTIONS) $(TRAIN_CAM) $(RESUME)

$(RUN)/cam.jsonl: $(RUN)/cam.pt $(call SETTINGS_OF,SCALES)
	$(SET) make-cam $(RUN)/$(TRAIN).jsonl -c $< $(SCALES) --skip-existing -o $(RUN)/cam > $@

# $(call TRAIN_NETWORK,RECORDS,TARGET,MORE): train a segmentation network on the masks under TARGET,
# a key of the records; MORE options, if any, have the last word.
TRAIN_NETWORK = $(strip $(SET) train-seg $(1) --target $(2) --classes $(CLASSES) \
	$(BACKBONE_OPTIONS) $(TRAIN_SEG) $(3) $(RESUME))
NETWORK_SETTINGS = $(call SETTINGS_OF,CLASSES BACKBONE_OPTIONS TRAIN_SEG)

# $(call FROM_MASKS,FOLDER): the measure of FOLDER's pseudo-masks, and the network that learns them.
define FROM_MASKS
$(1)/walk.json: $(1)/pseudo.jsonl $(RUN)/train.jsonl
	$$(PICK) | $$(EVAL) --key pseudo > $$@

$(1)/weak.pt: $(1)/pseudo.jsonl $(NETWORK_SETTINGS)
	$$(call TRAIN_NETWORK,$$<,pseudo)
endef

# $(call FROM_MAPS,FOLDER,MAPS,CHECKPOINT,WALK): the stages after the activation maps, the same for
# every method. MAPS are the records with the maps, CHECKPOINT the classifier that made them, WALK the
# variable with the options of the walk, OWN_WALK where the maps have a background of their own.
define FROM_MAPS
$(1)/aff_label.jsonl: $(2) $(call SETTINGS_OF,AFF_LABEL)
	@mkdir -p $(1)
	$$(SET) make-aff-labels $$< $$(AFF_LABEL) --skip-existing -o $(1)/aff_label > $$@

$(1)/aff.pt: $(1)/aff_label.jsonl $(3) $(call SETTINGS_OF,TRAIN_AFF)
	$$(SET) train-aff $$< -c $(3) $$(TRAIN_AFF) $$(RESUME)

$(1)/pseudo.jsonl: $(1)/aff.pt $(call SETTINGS_OF,$(4))
	$$(SET) random-walk $(1)/aff_label.jsonl -c $$< $$($(4)) --skip-existing -o $(1)/pseudo > $$@

$(call FROM_MASKS,$(1))
endef
$(eval $(call FROM_MAPS,$(RUN),$(RUN)/cam.jsonl,$(RUN)/cam.pt,WALK))

# ---- true masks -> network (the ceiling) ----

$(RUN)/full.pt: $(RUN)/$(TRAIN).jsonl $(NETWORK_SETTINGS)
	$(call TRAIN_NETWORK,$<,mask)

# ---- the mIoU of each stage ----

EVAL := $(WSSS) eval --classes $(CLASSES) --format json

PICK = $(call CHOSEN,$(RUN)/train.jsonl)

$(RUN)/cam.json: $(RUN)/cam.jsonl $(RUN)/train.jsonl
	$(PICK) | $(EVAL) --key cam > $@

$(RUN)/crf.json: $(RUN)/cam.jsonl $(RUN)/train.jsonl $(call SETTINGS_OF,CRF)
	$(PICK) | $(SET) crf $(CRF) --skip-existing -o $(RUN)/crf | $(EVAL) --key pseudo > $@

$(RUN)/%.json: $(RUN)/%.pt $(RUN)/val.jsonl $(call SETTINGS_OF,PREDICT)
	$(SET) predict $(RUN)/val.jsonl -c $< $(PREDICT) --skip-existing -o $(RUN)/$*.pred | $(EVAL) --key pred > $@
