#!/usr/bin/env bash
# Masks for your own photographs: one sub-folder per class, or a CSV with `file,label label …`.
# usage: own-folder.sh PHOTOS CLASSES.txt [OUT]
set -euo pipefail

photos=$1 classes=$2 out=${3:-out}
mkdir -p "$out"

wsss index folder "$photos" > "$out/photos.jsonl"
wsss train-cam "$out/photos.jsonl" --classes "$classes" --resume -o "$out/cam.pt"
wsss make-cam "$out/photos.jsonl" -c "$out/cam.pt" --skip-existing -o "$out/cam" |
    wsss make-aff-labels --low-alpha 2 --high-alpha 12 --skip-existing -o "$out/aff_label" \
        > "$out/regions.jsonl"
wsss train-aff "$out/regions.jsonl" -c "$out/cam.pt" --resume -o "$out/aff.pt"
wsss random-walk "$out/regions.jsonl" -c "$out/aff.pt" --beta 16 --alpha 6 --skip-existing -o "$out/masks" \
    > "$out/masks.jsonl"
wsss view "$out/masks.jsonl" --keys image,cam,pseudo --classes "$classes" -o "$out/sheet.png"
