# IRNet (Ahn, Cho & Kwak 2019) on the activation maps of another recipe, beside AffinityNet on the same
# maps, with the settings and measurements of voc.mk.
#
#   make voc6-irn DATA=voc6              on the CAMs of voc.mk
#   make voc6-irn DATA=voc6 MAPS=eps     on the EPS maps of eps.mk; MAPS=epspp: on those of EPS++
#   make voc6-irn DATA=voc6 MAPS=sipe    on the maps of sipe.mk
#
# What the other recipe has made already is used as it is, also AffinityNet's regions. IRN_LABEL gives
# IRNet regions of its own, as its authors have them: IRN_LABEL='--cut 0.3,0.05', or for maps with a
# background of their own IRN_LABEL='--cut-own 1,0.5'.

MAPS ?= cam
# Of each: the recipe, its maps, and the folder of the stages after them.
OF_MAPS_cam   := voc  cam              .
OF_MAPS_eps   := eps  eps/eps.maps     eps/plain
OF_MAPS_epspp := eps  eps/epspp.maps   eps
OF_MAPS_sipe  := sipe sipe/is-cam.maps sipe
OF_MAPS       := $(OF_MAPS_$(MAPS))
ifeq ($(OF_MAPS),)
$(error MAPS is cam, eps, epspp or sipe, not '$(MAPS)')
endif

.PHONY: irn
irn: irn-table

include $(dir $(lastword $(MAKEFILE_LIST)))$(word 1,$(OF_MAPS)).mk

IRN_MAPS := $(word 2,$(OF_MAPS))
BESIDE   := $(patsubst ./%,%,$(word 3,$(OF_MAPS))/)
IRN      := $(RUN)/$(BESIDE)irn
REGIONS  := $(if $(IRN_LABEL),$(IRN)/,$(RUN)/$(BESIDE))aff_label.jsonl

# The CAMs of EfficientNet-Lite0 are wider than those of ResNet-50, which its authors cut at 0.25.
IRN_WALK ?= $(if $(filter cam,$(MAPS)),--threshold 0.5)
SET_IRN  := $(WSSS) --config $(RECIPES)cpu-irn.toml
OF_IRN_LABEL := make-aff-labels
OF_TRAIN_IRN := irn-train
OF_IRN_WALK  := random-walk
SET_IRN_LABEL := $(SET_IRN)
SET_TRAIN_IRN := $(SET_IRN)
SET_IRN_WALK  := $(SET_IRN)

IRN_ROWS := '$(IRN_MAPS):train:maps' \
	'$(BESIDE)walk:train:maps + AffinityNet, random walk' \
	'$(BESIDE)irn/walk:train:maps + IRNet, random walk' \
	'$(BESIDE)weak:val:network trained on the masks of AffinityNet' \
	'$(BESIDE)irn/weak:val:network trained on the masks of IRNet' \
	'full:val:network trained on the true masks (ceiling)' \
	'$(BESIDE)irn/weak%full:val:weak / full supervision'
TABLE_ROWS = $(IRN_ROWS)

# Options are looked at before the first training.
$(RUN)/cam.pt $(RUN)/eps/eps.pt $(RUN)/sipe/sipe.pt: | $(call SETTINGS_OF,IRN_LABEL TRAIN_IRN IRN_WALK)

.PHONY: irn-table
irn-table: $(RUN)/$(IRN_MAPS).json $(RUN)/$(BESIDE)walk.json $(IRN)/walk.json \
		$(RUN)/$(BESIDE)weak.json $(IRN)/weak.json $(RUN)/full.json
	$(call TABLE,$(IRN_ROWS))

# ---- maps -> regions -> boundaries -> pseudo-masks -> network ----

$(IRN)/aff_label.jsonl: $(RUN)/$(IRN_MAPS).jsonl $(call SETTINGS_OF,IRN_LABEL)
	@mkdir -p $(IRN)
	$(SET_IRN) make-aff-labels $< $(IRN_LABEL) --skip-existing -o $(IRN)/aff_label > $@

$(IRN)/irn.pt: $(REGIONS) $(call SETTINGS_OF,IRN_LABEL TRAIN_IRN)
	@mkdir -p $(IRN)
	$(SET_IRN) irn-train $< $(BACKBONE_OPTIONS) $(TRAIN_IRN) $(RESUME)

$(IRN)/pseudo.jsonl: $(IRN)/irn.pt $(call SETTINGS_OF,IRN_WALK)
	$(SET_IRN) random-walk $(REGIONS) -c $< $(IRN_WALK) --skip-existing -o $(IRN)/pseudo > $@

$(eval $(call FROM_MASKS,$(IRN)))
