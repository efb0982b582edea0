# Saliency maps as pseudo-pixel supervision (EPS, EPS++; Lee et al. 2021, 2023), without and with a
# share of the true masks (1/16, 1/8, 1/4), with the settings and measurements of voc.mk.
#
#   make voc6-eps DATA=voc6     the 6-class subset on a CPU
#
# Needs saliency maps in DATA/$(SALIENCY). The pseudo-masks are those of the random walk on the EPS++
# maps; images of the share learn their true mask instead.

.PHONY: eps
eps: eps-table

include $(dir $(lastword $(MAKEFILE_LIST)))voc.mk

TRAIN_EPS ?= $(TRAIN_CAM)
OF_TRAIN_EPS := eps-train
# The maps of EPS++ have a background of their own, so the CRF has no threshold.
OF_EPS_CRF   := crf
SET_EPS_CRF  := $(WSSS) --config $(RECIPES)cpu-eps.toml
STRONG    ?= 16 8 4
EPS       := $(RUN)/eps

EPS_ROWS := 'cam:train:CAM, best threshold' \
	'eps/eps.maps:train:EPS maps' \
	'eps/plain/walk:train:EPS maps + AffinityNet, random walk' \
	'eps/plain/weak:val:network trained on these pseudo-masks' \
	'eps/epspp.maps:train:EPS++ maps' \
	'eps/crf:train:EPS++ maps + dense CRF' \
	'eps/walk:train:EPS++ maps + AffinityNet, random walk' \
	'eps/weak:val:network trained on these pseudo-masks' \
	$(foreach share,$(STRONG),'eps/strong$(share):val:the same with 1/$(share) of the true masks') \
	'full:val:network trained on the true masks (ceiling)' \
	'eps/weak%full:val:weak / full supervision'
TABLE_ROWS = $(EPS_ROWS)

.PHONY: eps-table
eps-table: $(RUN)/cam.json $(EPS)/eps.maps.json $(EPS)/plain/walk.json $(EPS)/plain/weak.json \
		$(EPS)/epspp.maps.json $(EPS)/crf.json $(EPS)/walk.json $(EPS)/weak.json \
		$(STRONG:%=$(EPS)/strong%.json) $(RUN)/full.json
	$(call TABLE,$(EPS_ROWS))

# ---- labels and saliency -> maps -> pseudo-masks -> network ----

$(EPS)/train.jsonl: ALWAYS
	@mkdir -p $(EPS)
	$(call IF_CHANGED,$(WSSS) index voc $(DATA) --split $(TRAIN) --saliency $(SALIENCY) -q)

$(EPS)/eps.pt: VARIANT = eps
$(EPS)/epspp.pt: VARIANT = eps++
$(EPS)/eps.pt $(EPS)/epspp.pt: $(EPS)/train.jsonl $(call SETTINGS_OF,CLASSES BACKBONE_OPTIONS TRAIN_EPS) | $(LATER)
	$(SET) eps-train $< --variant $(VARIANT) --classes $(CLASSES) $(BACKBONE_OPTIONS) $(TRAIN_EPS) $(RESUME)

$(EPS)/%.maps.jsonl: $(EPS)/%.pt $(call SETTINGS_OF,SCALES)
	$(SET) make-cam $(EPS)/train.jsonl -c $< $(SCALES) --skip-existing -o $(EPS)/$*.cam > $@

$(eval $(call FROM_MAPS,$(EPS),$(EPS)/epspp.maps.jsonl,$(EPS)/epspp.pt,OWN_WALK))
$(eval $(call FROM_MAPS,$(EPS)/plain,$(EPS)/eps.maps.jsonl,$(EPS)/eps.pt,OWN_WALK))

# The same maps and masks as above: --skip-existing computes nothing again.
$(EPS)/strong%.jsonl: $(EPS)/pseudo.jsonl
	$(WSSS) index voc $(DATA) --split $(TRAIN) --strong 1/$* | $(SET) make-cam -q -c $(EPS)/epspp.pt $(SCALES) --skip-existing -o $(EPS)/epspp.cam | $(SET) random-walk -q -c $(EPS)/aff.pt $(OWN_WALK) --skip-existing -o $(EPS)/pseudo > $@

# Named here, make does not take them for intermediate files, to be deleted in the end.
$(STRONG:%=$(EPS)/strong%.jsonl) $(STRONG:%=$(EPS)/strong%.pt):

# Training on both kinds of masks draws every second image from the share 1/s with true masks, and an
# epoch ends when each of the others has been drawn once. So one epoch draws 2 (s - 1) / s times as
# many images as on pseudo-masks alone; train for as many epochs less.
BOTH          := mask,pseudo
EPOCHS         = $(lastword $(shell { $(SET) config train-seg; echo '$(TRAIN_SEG)'; } | grep -oE -e '(\.epochs =|--epochs) [0-9]+'))
STRONG_EPOCHS  = $(shell echo $$((($(EPOCHS) * $* + $* - 1) / (2 * ($* - 1)))))

$(EPS)/strong%.pt: $(EPS)/strong%.jsonl $(NETWORK_SETTINGS)
	$(call TRAIN_NETWORK,$<,$(BOTH),--epochs $(STRONG_EPOCHS))

# ---- the mIoU of each stage ----

$(EPS)/%.maps.json: $(EPS)/%.maps.jsonl $(RUN)/train.jsonl
	$(PICK) | $(EVAL) --key cam > $@

$(EPS)/crf.json: $(EPS)/epspp.maps.jsonl $(RUN)/train.jsonl $(call SETTINGS_OF,EPS_CRF)
	$(PICK) | $(SET_EPS_CRF) crf $(EPS_CRF) --skip-existing -o $(EPS)/crf | $(EVAL) --key pseudo > $@
