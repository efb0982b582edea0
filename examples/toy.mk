# The recipe of voc.mk on generated toy data, in a few minutes on two CPU cores. Run it with
# `make demo`.

RUN  := demo
DATA := demo/toy

TRAIN    := train
CLASSES  := $(DATA)/classes.txt
CONFIG   := $(dir $(lastword $(MAKEFILE_LIST)))toy.toml

.PHONY: demo
demo: table demo/sheet.png
	@echo "contact sheet: demo/sheet.png"

include $(dir $(lastword $(MAKEFILE_LIST)))voc.mk

$(DATA)/classes.txt:
	$(WSSS) toy $(DATA) --num-train 240 --num-val 60 --size 240

$(RUN)/train.jsonl $(RUN)/val.jsonl: $(DATA)/classes.txt

# One row per image: the image, its CAM, the affinity labels, the pseudo-mask, the true mask.
demo/sheet.png: $(RUN)/pseudo.jsonl
	$(WSSS) view $< --keys image,cam,aff_label,pseudo,mask --limit 6 --classes $(CLASSES) -o $@ > /dev/null
