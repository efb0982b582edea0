#!/usr/bin/env bash
# For CI: predicts and measures, writes eval.json, and fails if the mIoU is below FLOOR (0 to 1).
# usage: ci-eval.sh DATA SPLIT CHECKPOINT FLOOR
set -euo pipefail

wsss index voc "$1" --split "$2" |
    wsss predict -c "$3" -o out/pred |
    wsss eval --key pred --format json --fail-under "$4" | tee eval.json
