#!/usr/bin/env bash
# bench/plot.sh [--draw-only]: measures recall@10, QPS and bytes per vector of
# the codecs on three sets (bench/results/codecs-SET.json, some two minutes each)
# draws them: docs/img/codecs-SET.svg and the table of docs/codecs.md.
# BUILD_DIR: another build folder than build/release. DATA_DIR: holds
# glove100-100k and use512-40k. MAX_QUERIES, PASSES: more for smoother curves.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
build=${BUILD_DIR:-$root/build/release}
data=${DATA_DIR:-$root/../shared/data}
images=${IMAGES_DIR:-/usr/share/datasets/fashion-mnist}
results=$root/bench/results

measure() { # SET NAME options
  local set=$1 name=$2
  shift 2
  "$build/bench/vicinal_codec_curves" --name "$name" \
    --max-queries "${MAX_QUERIES:-1000}" --passes "${PASSES:-3}" \
    --out "$results/codecs-$set.json" "$@"
}

if [ "${1:-}" != --draw-only ]; then
  if [ ! -f "$build/build.ninja" ]; then
    cmake -S "$root" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release >&2
  fi
  cmake --build "$build" --target vicinal_codec_curves >&2
  measure images "Fashion-MNIST" \
    --base "$images/train-images-idx3-ubyte.gz" \
    --queries "$images/t10k-images-idx3-ubyte.gz"
  measure sentences "sentences" --metric ip \
    --base "$data/use512-40k/base_i8.npy" \
    --queries "$data/use512-40k/query_id_f16.npy"
  measure words "word vectors" --metric cosine \
    --base "$data/glove100-100k/base_f16.npy" \
    --queries "$data/glove100-100k/query_f16.npy"
fi
python3 "$root/bench/plot.py" "$root/docs" \
  "$results"/codecs-{images,sentences,words}.json
