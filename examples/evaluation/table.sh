#!/usr/bin/env bash
# Makes the table of docs/evaluation.md: generates the dataset, trains every
# method with every seed, and measures. It may be stopped at any time; the same
# command goes on where it was.
#
#   table.sh FOLDER      (PIXPRO: the program, pixpro unless told; SEEDS, EPOCHS,
#                         METHODS, IMAGES, VAL_IMAGES as below)
#
# On two cores, two of these beside each other with GOMAXPROCS=1 and other SEEDS
# or METHODS take less time than one after the other.
set -euo pipefail
out=${1:?the folder for datasets, runs and results is missing}
pixpro=${PIXPRO:-pixpro}
read -ra seeds <<<"${SEEDS:-0 1 2}"
read -ra methods <<<"${METHODS:-untrained instance pixcontrast pixpro pixpro+instance}"
epochs=${EPOCHS:-16}
images=${IMAGES:-2000}
val_images=${VAL_IMAGES:-500}

mkdir -p "$out/results"
exec 9>"$out/lock"
if command -v flock >/dev/null; then flock 9; fi # another of these may be making the same
[ -e "$out/train" ] || "$pixpro" demo dataset --out "$out/train" --masks "$out/train-masks" --images "$images"
[ -e "$out/val" ] || "$pixpro" demo dataset --out "$out/val" --masks "$out/val-masks" --images "$val_images" --seed 1
[ -e "$out/shards/manifest.json" ] || "$pixpro" shard --in "$out/train" --out "$out/shards" --resume
[ -e "$out/val-shards/manifest.json" ] || "$pixpro" shard --in "$out/val" --out "$out/val-shards" --resume

exec 9>&-

# A small encoder with 6 x 6 cells, the same for all. The recipe is byol for
# small views: crops of at least a fifth of the image, and blur of as large a
# part of 96 pixels as byol's is of 224.
encoder=(--arch resnet18 --stem nopool --width 0.25)
training=("${encoder[@]}" --size 96 --batch 32 --epochs "$epochs" --warmup-epoch 1 --base-lr 16
  --recipe "$(dirname "$0")/recipe.json" --head-hidden 512 --save-every 4epochs --keep 0)
# Features of 12 x 12 cells of the whole images.
size=192

options() {
  case $1 in
  pixpro) echo --method pixpro ;;
  pixcontrast) echo --method pixcontrast ;;
  instance) echo --method instance --instance byol ;;
  pixpro+instance) echo --method pixpro --instance byol ;;
  *) echo "no such method: $1" >&2; return 1 ;;
  esac
}

# measure NAME COMMAND... keeps a command's JSON, unless it is there already.
measure() {
  local file=$out/results/$1.json
  shift
  [ -e "$file" ] && return
  "$@" --json >"$file.part$$"
  mv "$file.part$$" "$file"
}

folders=(--train "$out/train" --masks "$out/train-masks" --val "$out/val" --val-masks "$out/val-masks")
for seed in "${seeds[@]}"; do
  for method in "${methods[@]}"; do
    run=$out/$method-$seed
    if [ "$method" = untrained ]; then
      weights=(--untrained --seed "$seed" "${encoder[@]}")
    else
      chosen=$(options "$method")
      read -ra chosen <<<"$chosen"
      if [ ! -e "$run/done" ]; then
        "$pixpro" train --shards "$out/shards" --output "$run" --seed "$seed" --resume auto "${training[@]}" "${chosen[@]}"
        touch "$run/done"
      fi
      weights=(--checkpoint "$run")
    fi
    name=$method-$seed
    measure "segment-$name" "$pixpro" eval segment "${weights[@]}" --size $size "${folders[@]}"
    measure "cluster-$name" "$pixpro" eval cluster "${weights[@]}" --size $size --val "$out/val" --val-masks "$out/val-masks"
    measure "match-$name" "$pixpro" eval match "${weights[@]}" --size 96 --shards "$out/val-shards" --masks "$out/val-masks"
    measure "knn-$name" "$pixpro" eval knn "${weights[@]}" --size $size --train "$out/shards" --val "$out/val-shards"
  done
done

# How PixPro's features grow: the checkpoints of seed 0.
run=$out/pixpro-0
if [ -e "$run/done" ]; then
  for checkpoint in "$run"/checkpoints/step-*; do
    measure "curve-$(basename "$checkpoint")" "$pixpro" eval segment --checkpoint "$checkpoint" --size $size "${folders[@]}"
  done
fi
python3 "$(dirname "$0")/table.py" "$out/results"
