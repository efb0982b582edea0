# Image-specific prototypes (SIPE; Chen et al. 2022), with the settings and the ways of measuring of
# voc.mk.
#
#   make voc6-sipe DATA=voc6    the 6-class subset on a CPU
#
# Pseudo-masks are those of the random walk on the image-specific CAMs, with their own background.

.PHONY: sipe
sipe: sipe-table

include $(dir $(lastword $(MAKEFILE_LIST)))voc.mk

TRAIN_SIPE ?= $(TRAIN_CAM)
SIPE       := $(RUN)/sipe

SIPE_ROWS := 'cam:train:CAM, best threshold' \
	'sipe/cam.maps:train:general CAM of SIPE, best threshold' \
	'sipe/is-cam.maps:train:image-specific CAM, own background' \
	'sipe/walk:train:image-specific CAM + AffinityNet, random walk' \
	'sipe/weak:val:network trained on the pseudo-masks' \
	'full:val:network trained on the true masks (ceiling)' \
	'sipe/weak%full:val:weak / full supervision'

.PHONY: sipe-table
sipe-table: $(RUN)/cam.json $(SIPE)/cam.maps.json $(SIPE)/is-cam.maps.json $(SIPE)/walk.json \
		$(SIPE)/weak.json $(RUN)/full.json
	@$(PYTHON) $(DEMO)table.py $(RUN) $(SIPE_ROWS)

# ---- labels -> maps -> pseudo-masks -> network ----

$(SIPE)/sipe.pt: | $(RUN)/$(TRAIN).jsonl
	$(WSSS) sipe-train $(RUN)/$(TRAIN).jsonl --classes $(CLASSES) $(BODY) $(TRAIN_SIPE) --resume -o $@

$(SIPE)/is-cam.maps.jsonl: $(SIPE)/sipe.pt
	$(WSSS) make-cam $(RUN)/$(TRAIN).jsonl -c $< $(SCALES) --skip-existing -o $(SIPE)/is-cam > $@

# For the table alone, so of the photographs that are measured.
$(SIPE)/cam.maps.jsonl: $(SIPE)/sipe.pt | $(RUN)/train.jsonl
	$(WSSS) make-cam $(RUN)/train.jsonl -c $< --map cam $(SCALES) --skip-existing -o $(SIPE)/cam > $@

$(eval $(call FROM_MAPS,$(SIPE),$(SIPE)/is-cam.maps.jsonl,$(SIPE)/sipe.pt))

# ---- what each is worth ----

$(SIPE)/cam.maps.json: $(SIPE)/cam.maps.jsonl | $(RUN)/train.jsonl
	$(PICK) | $(EVAL) --key cam --no-own-background > $@

$(SIPE)/is-cam.maps.json: $(SIPE)/is-cam.maps.jsonl | $(RUN)/train.jsonl
	$(PICK) | $(EVAL) --key cam > $@
