#!/usr/bin/env bash
# Adversarial erasing (AE-PSL): mine what a classifier looks at, erase it, go on training on the rest.
# Prints, step by step, the classification loss and the share of pixels mined: where the loss rises
# sharply, what was left no longer shows the classes, and the steps before were enough. Records with
# `saliency` end up with `pseudo`, to be learnt with `wsss train-seg --psl`.
# usage: ae-psl.sh RECORDS.jsonl CLASSES [OUT] [STEPS]
set -euo pipefail

records=$1 classes=$2 out=${3:-out} steps=${4:-3}
here=$(dirname "$0") key=image before=$records done=() start=()

for step in $(seq 1 "$steps"); do
    now=$out/step$step
    wsss train-cam "$before" --image-key "$key" --classes "$classes" "${start[@]}" --resume -o "$now/cam.pt"
    wsss make-cam "$before" --image-key "$key" -c "$now/cam.pt" --skip-existing -o "$now/cam" |
        wsss erase --skip-existing -o "$now" > "$now.jsonl"
    key=erased before=$now.jsonl done+=("$now.jsonl")
    # Short and slow: one that learns long, or anew, learns what surrounds the objects by heart.
    start=(--weights "$now/cam.pt" --epochs 2 --lr 0.002 --new-lr 1)
    "${PYTHON:-python3}" "$here/ae_steps.py" "${done[@]}" > "$out/growth.jsonl"
done
shown=$(seq -s, -f 'mined%.0f' 1 "$steps")
wsss view "$out/growth.jsonl" --keys "image,$shown,pseudo,mask" --classes "$classes" -o "$out/growth.png"
