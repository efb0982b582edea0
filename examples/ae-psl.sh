#!/usr/bin/env bash
# Adversarial erasing (AE-PSL): mines the regions that a classifier relies on, erases them,
# fine-tunes the classifier on the erased images, and mines again. Prints the classification loss and
# the share of mined pixels after each step. A sharp rise of the loss means that the classes are no longer
# visible in the erased images: the steps before it were enough. Records with `saliency` also get
# `pseudo`, masks for `wsss train-seg --psl`.
# usage: ae-psl.sh RECORDS.jsonl CLASSES [OUT] [STEPS]
set -euo pipefail

records=$1 classes=$2 out=${3:-out} steps=${4:-3}
here=$(dirname "$0") key=image before=$records steps_done=() start=()

for step in $(seq 1 "$steps"); do
    now=$out/step$step
    wsss train-cam "$before" --image-key "$key" --classes "$classes" "${start[@]}" --resume --replace -o "$now/cam.pt"
    wsss make-cam "$before" --image-key "$key" -c "$now/cam.pt" --skip-existing -o "$now/cam" |
        wsss erase --skip-existing -o "$now" > "$now.jsonl"
    key=erased before=$now.jsonl steps_done+=("$now.jsonl")
    # Few epochs at a low rate: a classifier trained longer, or from scratch, overfits to the
    # surroundings of the erased objects.
    start=(--weights "$now/cam.pt" --epochs 2 --lr 0.002 --new-lr 1)
    "${PYTHON:-python3}" "$here/ae_steps.py" "${steps_done[@]}" > "$out/growth.jsonl"
done
shown=$(seq -s, -f 'mined%.0f' 1 "$steps")
wsss view "$out/growth.jsonl" --keys "image,$shown,pseudo,mask" --classes "$classes" -o "$out/growth.png"
