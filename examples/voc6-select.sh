#!/usr/bin/env bash
# Makes the 6-class subset of VOC 2012 of the published results: images that show only cats, cows,
# dogs, horses, people and sheep. OUT gets VOC's layout with links to the images and masks in your
# VOC2012; the image-level labels are the classes in the masks.
# usage: voc6-select.sh VOC2012 OUT [LISTS]     LISTS: a folder of id lists; default: voc6, here
#
# VOC2012 needs JPEGImages and SegmentationClass of PASCAL VOC 2012 and, for train_aug,
# SegmentationClassAug, the masks that the Semantic Boundaries Dataset adds.
set -euo pipefail

voc=$(realpath "$1") out=$2 lists=${3:-$(dirname "$0")/voc6}
mkdir -p "$out"/{JPEGImages,SegmentationClass,Annotations,ImageSets/Segmentation}

sort -u "$lists"/*.txt | while read -r id; do
    mask=$voc/SegmentationClass/$id.png # VOC's own mask if it exists, for its unlabelled borders
    [ -e "$mask" ] || mask=$voc/SegmentationClassAug/$id.png
    for file in "$voc/JPEGImages/$id.jpg" "$mask"; do
        [ -e "$file" ] || { echo "voc6-select.sh: no $file" >&2; exit 1; }
    done
    ln -sf "$voc/JPEGImages/$id.jpg" "$out/JPEGImages/$id.jpg"
    ln -sf "$mask" "$out/SegmentationClass/$id.png"
done
cp "$lists"/*.txt "$out/ImageSets/Segmentation/"

for list in "$lists"/*.txt; do
    wsss index voc "$out" --split "$(basename "$list" .txt)" --labels-from masks -q
done | python3 -c '
import json, pathlib, sys

for record in map(json.loads, sys.stdin):
    names = "".join(f"<object><name>{name}</name></object>" for name in record["labels"])
    path = pathlib.Path(sys.argv[1], record["id"] + ".xml")
    path.write_text(f"<annotation>{names}</annotation>\n")
' "$out/Annotations"
wc -l "$out"/ImageSets/Segmentation/*.txt
