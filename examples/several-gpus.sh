#!/usr/bin/env bash
# Train on all GPUs of this machine, then make the maps with one process a GPU.
# usage: several-gpus.sh RECORDS.jsonl GPUS
set -euo pipefail

records=$1 gpus=$2

torchrun --nproc-per-node "$gpus" -m wsss_cli train-cam "$records" --classes voc --resume -o cam.pt
parts=()
for gpu in $(seq 1 "$gpus"); do
    wsss make-cam "$records" -c cam.pt --device "cuda:$((gpu - 1))" --shard "$gpu/$gpus" \
        -o out/cam > "part-$gpu.jsonl" &
    parts+=($!)
done
for part in "${parts[@]}"; do
    wait "$part" # fails if that one did
done
for gpu in $(seq 1 "$gpus"); do
    cat "part-$gpu.jsonl"
done > cam.jsonl
