#!/usr/bin/env bash
#SBATCH --array=1-8
#SBATCH --gpus=1
#SBATCH --requeue
# An array of 8 jobs, each for one eighth of the records. A restarted job skips finished records.
# usage: sbatch slurm.sh RECORDS.jsonl
set -euo pipefail

shard=$SLURM_ARRAY_TASK_ID/8

wsss make-cam "$1" -c cam.pt --shard "$shard" --skip-existing -o out/cam |
    wsss random-walk -c aff.pt --skip-existing -o out/pseudo > "pseudo.$SLURM_ARRAY_TASK_ID.jsonl"
