# Adversarial erasing and prohibitive segmentation learning (AE-PSL; Wei et al. 2017), with the
# classifier, the settings and the ways of measuring of voc.mk.
#
#   make voc6-ae DATA=voc6      the 6-class subset on a CPU
#   make voc6-ae DATA=voc6 STAGE=ae-second      and a second round, on the network's own masks
#
# Each step goes on training the classifier of the one before, on photographs whose mined regions are
# erased; step 1 is the CAM of voc.mk. Needs saliency maps: ROOT/$(SALIENCY).

.PHONY: ae ae-second
ae: ae-table

include $(dir $(lastword $(MAKEFILE_LIST)))voc.mk

SALIENCY ?= Saliency
ERASE    ?= --threshold 0.5
AE       := $(RUN)/ae
# Short and slow: a classifier that learns long, or anew, learns what surrounds the objects by heart.
ifeq ($(SETTINGS),cpu)
TRAIN_STEP ?= --epochs 2 --batch-size 16 --crop 320 --resize 320,640 --lr 0.002 --new-lr 1
else
TRAIN_STEP ?= --epochs 4 --batch-size 16 --crop 448 --resize 448,768 --lr 0.01 --new-lr 1 --weight-decay 5e-4
endif
RECIPES  := $(dir $(lastword $(filter %ae-psl.mk,$(MAKEFILE_LIST))))

AE_ROWS = 'cam:train:CAM, best threshold' \
	'ae/step1.mined:train:mined in 1 step' \
	'ae/step2.mined:train:mined in 2 steps' \
	'ae/step3.mined:train:mined in 3 steps' \
	'ae/step1.merged:train:mined in 1 step, merged with saliency ¹' \
	'ae/step2.merged:train:mined in 2 steps, merged with saliency ¹' \
	'ae/step3.merged:train:mined in 3 steps, merged with saliency ¹' \
	'ae/plain:val:network without PSL' \
	'ae/psl:val:network with PSL' \
	$(and $(wildcard $(AE)/psl2.json),'ae/psl2:val:second round with PSL')

.PHONY: ae-table
ae-table: $(RUN)/cam.json $(foreach step,1 2 3,$(AE)/step$(step).mined.json $(AE)/step$(step).merged.json) \
		$(AE)/plain.json $(AE)/psl.json $(AE)/growth.png
	@cat $(AE)/steps.md
	@$(PYTHON) $(RECIPES)table.py $(RUN) $(AE_ROWS)
	@echo "¹ pixels that stay undecided (255), about a fifth, count as missed"
	@echo "step by step: $(AE)/growth.png"

ae-second: $(AE)/psl2.json
	@$(MAKE) --no-print-directory -f $(RECIPES)ae-psl.mk ae

# ---- mining ----

$(AE)/step0.jsonl:
	@mkdir -p $(AE)
	$(WSSS) index voc $(DATA) --split $(TRAIN) --saliency $(SALIENCY) > $@

$(AE)/step1.jsonl: $(RUN)/cam.jsonl $(AE)/step0.jsonl
	$(WSSS) make-cam $(AE)/step0.jsonl -c $(RUN)/cam.pt $(SCALES) --skip-existing -o $(RUN)/cam | $(WSSS) erase $(ERASE) --skip-existing -o $(AE)/step1 > $@

# $(call STEP,number,the one before,its classifier)
define STEP
$(AE)/step$(1)/cam.pt: $(AE)/step$(2).jsonl
	$$(WSSS) train-cam $$< --image-key erased --classes $$(CLASSES) --backbone $$(BACKBONE) --weights $(3) $$(TRAIN_STEP) --resume -o $$@

$(AE)/step$(1).jsonl: $(AE)/step$(1)/cam.pt
	$$(WSSS) make-cam $(AE)/step$(2).jsonl --image-key erased -c $$< $$(SCALES) --skip-existing -o $(AE)/step$(1)/cam | $$(WSSS) erase $$(ERASE) --skip-existing -o $(AE)/step$(1) > $$@
endef
$(eval $(call STEP,2,1,$(RUN)/cam.pt))
$(eval $(call STEP,3,2,$(AE)/step2/cam.pt))

# ---- learning from what was mined ----

$(AE)/plain.pt: $(AE)/step3.jsonl
	$(WSSS) train-seg $< --target pseudo --classes $(CLASSES) $(BODY) $(TRAIN_SEG) --resume -o $@

$(AE)/psl.pt: $(AE)/step3.jsonl
	$(WSSS) train-seg $< --target pseudo --psl --classes $(CLASSES) $(BODY) $(TRAIN_SEG) --resume -o $@

$(AE)/psl2.pt: $(AE)/psl.pt
	$(WSSS) predict $(AE)/step3.jsonl -c $< $(PREDICT) --skip-existing -o $(AE)/own > $(AE)/own.jsonl
	$(WSSS) train-seg $(AE)/own.jsonl --target pred --psl --classes $(CLASSES) $(BODY) $(TRAIN_SEG) --resume -o $@

# ---- what each is worth ----

$(AE)/%.mined.json: $(AE)/%.jsonl | $(RUN)/train.jsonl
	$(PICK) | $(EVAL) --key mined > $@

$(AE)/%.merged.json: $(AE)/%.jsonl | $(RUN)/train.jsonl
	$(PICK) | $(EVAL) --key pseudo > $@

$(AE)/steps.md: $(AE)/step3.jsonl
	$(PYTHON) $(RECIPES)ae_steps.py $(AE)/step1.jsonl=$(RUN)/cam.pt $(AE)/step2.jsonl $(AE)/step3.jsonl 2> $@ > $(AE)/growth.jsonl

$(AE)/growth.png: $(AE)/steps.md
	$(WSSS) view $(AE)/growth.jsonl --keys image,mined1,mined2,mined3,saliency,pseudo,mask --classes $(CLASSES) -o $@ > /dev/null
