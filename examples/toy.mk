# The whole chain on made-up data, small enough for two cores and a few minutes; see voc.mk for the
# same on real data. Run it with `make demo`.

RUN  := demo
DATA := demo/toy

TRAIN    := train
CLASSES  := $(DATA)/classes.txt
SETTINGS := cpu
TRAIN_CAM := --epochs 10 --crop 160 --resize 140,240 --lr 0.02
SCALES    := --scales 1,1.5,2
AFF_LABEL := --low-alpha 2 --high-alpha 12
TRAIN_AFF := --epochs 6 --crop 160
WALK      := --beta 16 --alpha 6
TRAIN_SEG := --head aspp --epochs 10 --crop 160
PREDICT   := --scales 1,1.5

.PHONY: demo
demo: table demo/sheet.png
	@echo "contact sheet: demo/sheet.png"

include $(dir $(lastword $(MAKEFILE_LIST)))voc.mk

$(DATA)/classes.txt:
	$(WSSS) toy $(DATA) --train 300 --val 60

$(RUN)/train.jsonl $(RUN)/val.jsonl: | $(DATA)/classes.txt

# One row an image: what was labelled, where the CAM looked, what the walk made of it, the truth.
demo/sheet.png: $(RUN)/pseudo.done.jsonl
	$(WSSS) view $< --keys image,cam,aff_label,pseudo,mask --limit 6 --classes $(CLASSES) -o $@ > /dev/null
