# Adversarial erasing and prohibitive segmentation learning (AE-PSL; Wei et al. 2017), with the
# classifier, settings and measurements of voc.mk; the later classifiers have cpu-steps.toml.
#
#   make voc6-ae DATA=voc6              the 6-class subset on a CPU
#   make voc6-ae DATA=voc6 ROUNDS=2     and a second network, trained on the masks of the first
#
# Step 1 mines the CAM of voc.mk. Each further step fine-tunes the classifier of the step before on
# images whose mined regions are erased. Needs saliency maps in DATA/$(SALIENCY).

.PHONY: ae
ae: ae-table

include $(dir $(lastword $(MAKEFILE_LIST)))voc.mk

OF_ERASE := erase
# STAGE=ae-second is the former name of ROUNDS=2.
ROUNDS   ?= $(if $(filter ae-second,$(STAGE)),2,1)
ifeq ($(filter 1 2,$(ROUNDS)),)
$(error ROUNDS is 1 or 2, not '$(ROUNDS)')
endif
AE       := $(RUN)/ae
OF_TRAIN_STEP  := train-cam
SET_TRAIN_STEP := $(WSSS) --config $(RECIPES)cpu-steps.toml

AE_ROWS = 'cam:train:CAM, best threshold' \
	'ae/step1.mined:train:mined in 1 step' \
	'ae/step2.mined:train:mined in 2 steps' \
	'ae/step3.mined:train:mined in 3 steps' \
	'ae/step1.merged:train:mined in 1 step, merged with saliency ¹' \
	'ae/step2.merged:train:mined in 2 steps, merged with saliency ¹' \
	'ae/step3.merged:train:mined in 3 steps, merged with saliency ¹' \
	'ae/plain:val:network without PSL' \
	'ae/psl:val:network with PSL' \
	$(and $(filter 2,$(ROUNDS))$(wildcard $(AE)/psl2.json),'ae/psl2:val:second round with PSL')
TABLE_ROWS = $(AE_ROWS)

.PHONY: ae-table
ae-table: $(RUN)/cam.json $(foreach step,1 2 3,$(AE)/step$(step).mined.json $(AE)/step$(step).merged.json) \
		$(AE)/plain.json $(AE)/psl.json $(if $(filter 2,$(ROUNDS)),$(AE)/psl2.json) $(AE)/growth.png
	@cat $(AE)/steps.md
	$(call TABLE,$(AE_ROWS))
	@echo "¹ pixels that stay undecided (255), about a fifth, count as missed"
	@echo "step by step: $(AE)/growth.png"

$(RUN)/cam.pt: | $(call SETTINGS_OF,ERASE TRAIN_STEP)

# ---- mining ----

$(AE)/step0.jsonl: ALWAYS
	@mkdir -p $(AE)
	$(call IF_CHANGED,$(WSSS) index voc $(DATA) --split $(TRAIN) --saliency $(SALIENCY) -q)

$(AE)/step1.jsonl: $(RUN)/cam.jsonl $(AE)/step0.jsonl $(call SETTINGS_OF,ERASE)
	$(SET) make-cam $(AE)/step0.jsonl -c $(RUN)/cam.pt $(SCALES) --skip-existing -o $(RUN)/cam | $(SET) erase $(ERASE) --skip-existing -o $(AE)/step1 > $@

# $(call STEP,NUMBER,BEFORE,CHECKPOINT): step NUMBER starts from the records of step BEFORE and from
# the CHECKPOINT of its classifier.
define STEP
$(AE)/step$(1)/cam.pt: $(AE)/step$(2).jsonl $(3) $(call SETTINGS_OF,TRAIN_STEP)
	$$(SET_TRAIN_STEP) train-cam $$< --image-key erased --classes $$(CLASSES) $$(if $$(BACKBONE),--backbone $$(BACKBONE)) --weights $(3) $$(TRAIN_STEP) $$(RESUME)

$(AE)/step$(1).jsonl: $(AE)/step$(1)/cam.pt
	$$(SET) make-cam $(AE)/step$(2).jsonl --image-key erased -c $$< $$(SCALES) --skip-existing -o $(AE)/step$(1)/cam | $$(SET) erase $$(ERASE) --skip-existing -o $(AE)/step$(1) > $$@
endef
$(eval $(call STEP,2,1,$(RUN)/cam.pt))
$(eval $(call STEP,3,2,$(AE)/step2/cam.pt))

# ---- mined regions merged with saliency -> networks ----

$(AE)/plain.pt: $(AE)/step3.jsonl $(NETWORK_SETTINGS)
	$(call TRAIN_NETWORK,$<,pseudo)

$(AE)/psl.pt: $(AE)/step3.jsonl $(NETWORK_SETTINGS)
	$(call TRAIN_NETWORK,$<,pseudo,--psl)

$(AE)/psl2.pt: $(AE)/psl.pt $(call SETTINGS_OF,PREDICT)
	$(SET) predict $(AE)/step3.jsonl -c $< $(PREDICT) --skip-existing -o $(AE)/own > $(AE)/own.jsonl
	$(call TRAIN_NETWORK,$(AE)/own.jsonl,pred,--psl)

# ---- the mIoU of each stage ----

$(AE)/%.mined.json: $(AE)/%.jsonl $(RUN)/train.jsonl
	$(PICK) | $(EVAL) --key mined > $@

$(AE)/%.merged.json: $(AE)/%.jsonl $(RUN)/train.jsonl
	$(PICK) | $(EVAL) --key pseudo > $@

$(AE)/steps.md: $(AE)/step3.jsonl
	$(PYTHON) $(RECIPES)ae_steps.py $(AE)/step1.jsonl=$(RUN)/cam.pt $(AE)/step2.jsonl $(AE)/step3.jsonl 2> $@ > $(AE)/growth.jsonl

$(AE)/growth.png: $(AE)/steps.md
	$(WSSS) view $(AE)/growth.jsonl --keys image,mined1,mined2,mined3,saliency,pseudo,mask --classes $(CLASSES) -o $@ > /dev/null
