#!/usr/bin/env bash
# For CI: predict, measure, fail if the mIoU falls below a floor. Keeps the result as JSON.
# usage: ci-eval.sh DATA SPLIT CHECKPOINT FLOOR
set -euo pipefail

wsss index voc "$1" --split "$2" |
    wsss predict -c "$3" -o out/pred |
    wsss eval --key pred --format json --fail-under "$4" | tee eval.json
