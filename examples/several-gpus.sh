#!/usr/bin/env bash
# Trains on several GPUs of this machine, then computes the maps with one process per GPU.
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
    wait "$part"
done
for gpu in $(seq 1 "$gpus"); do
    cat "part-$gpu.jsonl"
done > cam.jsonl
