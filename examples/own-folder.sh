#!/usr/bin/env bash
# Masks for your own photographs. The label of a photograph is the name of its sub-folder in PHOTOS;
# for several labels each, write a table PHOTOS/labels.csv with one line `file,label label …` per
# photograph. Run again after an interruption, the script resumes.
# usage: own-folder.sh PHOTOS CLASSES.txt [OUT]
set -euo pipefail

[ $# -ge 2 ] || { echo 'usage: own-folder.sh PHOTOS CLASSES.txt [OUT]' >&2; exit 2; }
photos=$1 classes=$2 out=${3:-out}
mkdir -p "$out"

if [ -e "$photos/labels.csv" ]; then
    wsss index folder "$photos" --csv "$photos/labels.csv"
else
    wsss index folder "$photos"
fi > "$out/photos.jsonl"
wsss train-cam "$out/photos.jsonl" --classes "$classes" --resume --replace -o "$out/cam.pt"
wsss make-cam "$out/photos.jsonl" -c "$out/cam.pt" --skip-existing -o "$out/cam" |
    wsss make-aff-labels --low-alpha 2 --high-alpha 12 --skip-existing -o "$out/aff_label" \
        > "$out/regions.jsonl"
wsss train-aff "$out/regions.jsonl" -c "$out/cam.pt" --resume --replace -o "$out/aff.pt"
wsss random-walk "$out/regions.jsonl" -c "$out/aff.pt" --beta 8 --alpha 8 --skip-existing -o "$out/masks" \
    > "$out/masks.jsonl"
wsss view "$out/masks.jsonl" --keys image,cam,pseudo --classes "$classes" -o "$out/sheet.png"
