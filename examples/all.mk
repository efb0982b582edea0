# All methods, one after another, and one table that compares them. Finished stages are skipped.
#
#   make voc6-all DATA=voc6     the 6-class subset on a CPU

.PHONY: all
all: all-table

include $(dir $(lastword $(MAKEFILE_LIST)))voc.mk

# NAME:RECIPE:MAPS:MASKS:NETWORK:FILES, see summary.py. Files that several methods need count for each.
AFTER := aff_label.jsonl aff.pt pseudo.jsonl weak.pt
AFTER_IRN := irn.pt pseudo.jsonl weak.pt

# $(call BOTH_WALKS,NAME,RECIPE,MAPS,FOLDER/,FILES,MAPS of irn.mk): the rows of maps with either network.
BOTH_WALKS = '$(1) + AffinityNet:$(2):$(3):$(4)walk:$(4)weak:$(5) $(addprefix $(4),$(AFTER))' \
	'$(1) + IRNet:voc6-irn MAPS=$(6):$(3):$(4)irn/walk:$(4)irn/weak:$(5) $(4)aff_label.jsonl $(addprefix $(4)irn/,$(AFTER_IRN))'
ALL_ROWS := $(call BOTH_WALKS,CAM,voc6,cam,,cam.pt cam.jsonl,cam) \
	'AE-PSL:voc6-ae:ae/step3.mined:ae/step3.merged:ae/psl:cam.pt cam.jsonl ae/step* ae/psl.pt' \
	$(call BOTH_WALKS,EPS,voc6-eps,eps/eps.maps,eps/plain/,eps/eps.pt eps/eps.maps.jsonl,eps) \
	$(call BOTH_WALKS,EPS++,voc6-eps,eps/epspp.maps,eps/,eps/epspp.pt eps/epspp.maps.jsonl,epspp) \
	$(call BOTH_WALKS,SIPE,voc6-sipe,sipe/is-cam.maps,sipe/,sipe/sipe.pt sipe/is-cam.maps.jsonl,sipe) \
	'true masks (ceiling):voc6:::full:full.pt'

# The same as rows of table.py, for several seeds.
BOTH_STAGES = '$(2):train:$(1)' '$(3)walk:train:$(1) + AffinityNet' '$(3)weak:val:$(1) + AffinityNet, network' \
	'$(3)irn/walk:train:$(1) + IRNet' '$(3)irn/weak:val:$(1) + IRNet, network'
SHARES = '$(2)weak%full:val:$(1) + AffinityNet / ceiling' '$(2)irn/weak%full:val:$(1) + IRNet / ceiling'
TABLE_ROWS = $(call BOTH_STAGES,CAM,cam,) \
	'ae/step3.mined:train:AE-PSL, mined' 'ae/step3.merged:train:AE-PSL, merged' 'ae/psl:val:AE-PSL, network' \
	$(call BOTH_STAGES,EPS,eps/eps.maps,eps/plain/) $(call BOTH_STAGES,EPS++,eps/epspp.maps,eps/) \
	$(call BOTH_STAGES,SIPE,sipe/is-cam.maps,sipe/) 'full:val:true masks (ceiling)' \
	$(call SHARES,CAM,) 'ae/psl%full:val:AE-PSL / ceiling' $(call SHARES,EPS,eps/plain/) \
	$(call SHARES,EPS++,eps/) $(call SHARES,SIPE,sipe/)

.PHONY: all-methods all-table
all-methods:
	@$(MAKE) --no-print-directory -f $(RECIPES)voc.mk
	@$(MAKE) --no-print-directory -f $(RECIPES)ae.mk
	@$(MAKE) --no-print-directory -f $(RECIPES)eps.mk
	@$(MAKE) --no-print-directory -f $(RECIPES)sipe.mk
	@for maps in cam eps epspp sipe; do \
		$(MAKE) --no-print-directory -f $(RECIPES)irn.mk MAPS=$$maps || exit 1; \
	done

all-table: all-methods
	@$(PYTHON) $(RECIPES)summary.py $(RUN) $(ALL_ROWS)
