# Image-specific prototypes (SIPE; Chen et al. 2022), with the settings and measurements of voc.mk.
#
#   make voc6-sipe DATA=voc6    the 6-class subset on a CPU
#
# The pseudo-masks are those of the random walk on the image-specific CAMs, which have a background
# map of their own.

.PHONY: sipe
sipe: sipe-table

include $(dir $(lastword $(MAKEFILE_LIST)))voc.mk

TRAIN_SIPE ?= $(TRAIN_CAM)
OF_TRAIN_SIPE := sipe-train
SIPE       := $(RUN)/sipe

SIPE_ROWS := 'cam:train:CAM, best threshold' \
	'sipe/cam.maps:train:general CAM of SIPE, best threshold' \
	'sipe/is-cam.maps:train:image-specific CAM, own background' \
	'sipe/walk:train:image-specific CAM + AffinityNet, random walk' \
	'sipe/weak:val:network trained on the pseudo-masks' \
	'full:val:network trained on the true masks (ceiling)' \
	'sipe/weak%full:val:weak / full supervision'
TABLE_ROWS = $(SIPE_ROWS)

.PHONY: sipe-table
sipe-table: $(RUN)/cam.json $(SIPE)/cam.maps.json $(SIPE)/is-cam.maps.json $(SIPE)/walk.json \
		$(SIPE)/weak.json $(RUN)/full.json
	$(call TABLE,$(SIPE_ROWS))

# ---- labels -> maps -> pseudo-masks -> network ----

$(SIPE)/sipe.pt: $(RUN)/$(TRAIN).jsonl $(call SETTINGS_OF,CLASSES BACKBONE_OPTIONS TRAIN_SIPE) | $(LATER)
	$(SET) sipe-train $< --classes $(CLASSES) $(BACKBONE_OPTIONS) $(TRAIN_SIPE) $(RESUME)

$(SIPE)/is-cam.maps.jsonl: $(SIPE)/sipe.pt $(call SETTINGS_OF,SCALES)
	$(SET) make-cam $(RUN)/$(TRAIN).jsonl -c $< $(SCALES) --skip-existing -o $(SIPE)/is-cam > $@

# Needed for the table only, so only for the measured images.
$(SIPE)/cam.maps.jsonl: $(SIPE)/sipe.pt $(RUN)/train.jsonl $(call SETTINGS_OF,SCALES)
	$(SET) make-cam $(RUN)/train.jsonl -c $< --map cam $(SCALES) --skip-existing -o $(SIPE)/cam > $@

$(eval $(call FROM_MAPS,$(SIPE),$(SIPE)/is-cam.maps.jsonl,$(SIPE)/sipe.pt,OWN_WALK))

# ---- the mIoU of each stage ----

$(SIPE)/cam.maps.json: $(SIPE)/cam.maps.jsonl $(RUN)/train.jsonl
	$(PICK) | $(EVAL) --key cam --no-own-background > $@

$(SIPE)/is-cam.maps.json: $(SIPE)/is-cam.maps.jsonl $(RUN)/train.jsonl
	$(PICK) | $(EVAL) --key cam > $@
