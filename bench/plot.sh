#!/usr/bin/env bash
# bench/plot.sh [codecs|multivector] [--draw-only]: measures and draws curves.
#   codecs (unless said otherwise): recall@10, QPS and bytes per vector of the
#     codecs on three sets (bench/results/codecs-SET.json, some two minutes
#     each), docs/img/codecs-SET.svg and the table of docs/codecs.md
#   multivector: recall@10 against latency by encoder, bits of encodings and
#     codec of tokens on two sets (bench/results/multivector-SET.json, some ten
#     minutes each), docs/img/multivector-SET-*.svg and the table of
#     docs/BENCHMARKS.md
# BUILD_DIR: another build folder than build/release. DATA_DIR: holds
# glove100-100k, use512-40k and mv-glove-20k. MAX_QUERIES, PASSES: more for
# smoother curves. DOCUMENTS: of the generated multi-vectors.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
build=${BUILD_DIR:-$root/build/release}
data=${DATA_DIR:-$root/../shared/data}
images=${IMAGES_DIR:-/usr/share/datasets/fashion-mnist}
results=$root/bench/results

build_target() {
  if [ ! -f "$build/build.ninja" ]; then
    cmake -S "$root" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release >&2
  fi
  cmake --build "$build" --target "$1" >&2
}

measure_codecs() { # SET NAME options
  local set=$1 name=$2
  shift 2
  "$build/bench/vicinal_codec_curves" --name "$name" \
    --max-queries "${MAX_QUERIES:-1000}" --passes "${PASSES:-3}" \
    --out "$results/codecs-$set.json" "$@"
}

measure_multivector() { # SET options
  local set=$1
  shift
  "$build/bench/vicinal_multivector_curves" --set "$set" --data-dir "$data" \
    --passes "${PASSES:-3}" --out "$results/multivector-$set.json" "$@"
}

what=codecs
if [ "${1:-}" = codecs ] || [ "${1:-}" = multivector ]; then
  what=$1
  shift
fi
if [ "${1:-}" != --draw-only ]; then
  if [ "$what" = codecs ]; then
    build_target vicinal_codec_curves
    measure_codecs images "Fashion-MNIST" \
      --base "$images/train-images-idx3-ubyte.gz" \
      --queries "$images/t10k-images-idx3-ubyte.gz"
    measure_codecs sentences "sentences" --metric ip \
      --base "$data/use512-40k/base_i8.npy" \
      --queries "$data/use512-40k/query_id_f16.npy"
    measure_codecs words "word vectors" --metric cosine \
      --base "$data/glove100-100k/base_f16.npy" \
      --queries "$data/glove100-100k/query_f16.npy"
  else
    build_target vicinal_multivector_curves
    measure_multivector glove
    measure_multivector generated --documents "${DOCUMENTS:-20000}"
  fi
fi
if [ "$what" = codecs ]; then
  python3 "$root/bench/plot.py" "$root/docs" \
    "$results"/codecs-{images,sentences,words}.json
else
  python3 "$root/bench/plot_multivector.py" "$root/docs" \
    "$results"/multivector-{glove,generated}.json
fi
