#!/usr/bin/env bash
# Writes what a version of the program writes, to be read by later ones:
#
#	testdata/compat/write.sh PROGRAM VERSION
#
# makes testdata/compat/VERSION from testdata/compat/images.
set -euo pipefail
program=$(realpath "$1")
cd "$(dirname "$0")"
mkdir "$2"
cd "$2"
"$program" shard --in ../images --out shards --shard-size 16KiB
"$program" augment --shards shards --size 16 --batch 3 --epochs 1 --seed 5 --recipe byol --out views.arrow
"$program" train --shards shards --output run --arch resnet18 --stem small --width 0.03125 --head-hidden 8 --head-dim 4 \
  --size 32 --batch 4 --epochs 2 --warmup-epoch 0 --save-every 2steps --keep 0 --threads 1 --seed 3 --log-level error
rm -f run/*.png run/events.*
# A run of 4 steps. What one that resumes from the second must come to is kept,
# the second checkpoint, and an export of it.
cp run/metrics.jsonl metrics.jsonl
rm -r run/checkpoints/step-00000004
echo step-00000002 >run/checkpoints/latest
"$program" export --checkpoint run --out backbone.safetensors
