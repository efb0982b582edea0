# All methods, one after another, and one table that compares them. Finished stages are skipped.
#
#   make voc6-all DATA=voc6     the 6-class subset on a CPU

.PHONY: all
all: all-table

include $(dir $(lastword $(MAKEFILE_LIST)))voc.mk

# NAME:RECIPE:MAPS:MASKS:NETWORK:FILES, see summary.py. Files that several methods need count for each.
FIRST := cam.pt cam.jsonl
AFTER := aff_label.jsonl aff.pt pseudo.jsonl weak.pt
ALL_ROWS := 'CAM + AffinityNet:voc6:cam:walk:weak:$(FIRST) $(AFTER)' \
	'AE-PSL:voc6-ae:ae/step3.mined:ae/step3.merged:ae/psl:$(FIRST) ae/step* ae/psl.pt' \
	'EPS:voc6-eps:eps/eps.maps:eps/plain/walk:eps/plain/weak:eps/eps.pt eps/eps.maps.jsonl $(addprefix eps/plain/,$(AFTER))' \
	'EPS++:voc6-eps:eps/epspp.maps:eps/walk:eps/weak:eps/epspp.pt eps/epspp.maps.jsonl $(addprefix eps/,$(AFTER))' \
	'SIPE:voc6-sipe:sipe/is-cam.maps:sipe/walk:sipe/weak:sipe/sipe.pt sipe/is-cam.maps.jsonl $(addprefix sipe/,$(AFTER))' \
	'true masks (ceiling):voc6:::full:full.pt'

# The same as rows of table.py, for several seeds.
TABLE_ROWS = 'cam:train:CAM' 'walk:train:CAM + AffinityNet' 'weak:val:CAM + AffinityNet, network' \
	'ae/step3.mined:train:AE-PSL, mined' 'ae/step3.merged:train:AE-PSL, merged' 'ae/psl:val:AE-PSL, network' \
	'eps/eps.maps:train:EPS' 'eps/plain/walk:train:EPS + AffinityNet' 'eps/plain/weak:val:EPS, network' \
	'eps/epspp.maps:train:EPS++' 'eps/walk:train:EPS++ + AffinityNet' 'eps/weak:val:EPS++, network' \
	'sipe/is-cam.maps:train:SIPE' 'sipe/walk:train:SIPE + AffinityNet' 'sipe/weak:val:SIPE, network' \
	'full:val:true masks (ceiling)' 'weak%full:val:CAM + AffinityNet / ceiling' 'ae/psl%full:val:AE-PSL / ceiling' \
	'eps/plain/weak%full:val:EPS / ceiling' 'eps/weak%full:val:EPS++ / ceiling' 'sipe/weak%full:val:SIPE / ceiling'

.PHONY: all-methods all-table
all-methods:
	@$(MAKE) --no-print-directory -f $(RECIPES)voc.mk
	@$(MAKE) --no-print-directory -f $(RECIPES)ae.mk
	@$(MAKE) --no-print-directory -f $(RECIPES)eps.mk
	@$(MAKE) --no-print-directory -f $(RECIPES)sipe.mk

all-table: all-methods
	@$(PYTHON) $(RECIPES)summary.py $(RUN) $(ALL_ROWS)
