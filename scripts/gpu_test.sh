#!/usr/bin/env bash
# Builds the GPU library with its tests and benchmarks on a machine that has
# little more than nvcc and g++, and runs them.
set -euo pipefail

usage() {
  cat <<'USAGE'
Usage: scripts/gpu_test.sh [--build-only] [--tests] [--bench] [--filter TEXT]
                           [--arch SM]

Compiles src/distance/gpu and what tests and measures it into
${GPU_BUILD:-/tmp/vicinal-gpu}, runs the conformance tests on GPU 0 against the
CPU, then the benchmarks, and prints their tables. Figures are also written to
bench/results/gpu-<device>.json (to $OUT, where that is set). Needs no CMake and
none of the libraries of the server. PyTorch, where python3 has it, is measured
beside.

  --build-only   no more than that
  --tests        tests only
  --bench        benchmarks only
  --filter TEXT  tests or benchmarks whose name contains TEXT
  --arch SM      architecture of the device, e.g. 80; default 90a
  --help         this text
USAGE
}

arch=90a
tests=true
bench=true
filter=''
while (($# > 0)); do
  case "$1" in
    --build-only) tests=false bench=false ;;
    --tests) bench=false ;;
    --bench) tests=false ;;
    --filter)
      filter="${2:?--filter needs a text}"
      shift
      ;;
    --arch)
      arch="${2:?--arch needs a number}"
      shift
      ;;
    -h | --help)
      usage
      exit 0
      ;;
    *)
      echo "gpu_test: unknown option '$1'" >&2
      usage >&2
      exit 2
      ;;
  esac
  shift
done
cd "$(dirname "${BASH_SOURCE[0]}")/.."
build="${GPU_BUILD:-/tmp/vicinal-gpu}"
mkdir -p "$build"
# As nvcc says itself: what is in PATH may be a link or a script that calls it.
cuda="$(nvcc --dryrun -x cu -E /dev/null 2>&1 | sed -n 's/^#\$ TOP=//p')"

host=(g++ -std=c++20 -O2 -I. -isystem "$cuda/include" -DVICINAL_CUDA
      -DVICINAL_X86_KERNELS)
device=(nvcc -std=c++20 -O3 -I. -gencode
        "arch=compute_${arch},code=sm_${arch}")
hopper=(nvcc -std=c++20 -O3 -I. -gencode
        "arch=compute_90a,code=sm_90a")
# As src/distance/CMakeLists.txt has it: the bits of results depend on it.
kernel=(-ffp-contract=off -fno-math-errno -fno-exceptions -Wno-uninitialized
        -Wno-maybe-uninitialized)

objects=()
failed="$build/failed"
rm -f "$failed"
# object SOURCE COMMAND...: compiles in the background, unless nothing changed.
object() {
  local source=$1 target
  shift
  target="$build/$(basename "$source").$arch.o"
  objects+=("$target")
  if [[ -e $target && -z $(find src quant tests/distance/gpu bench/gpu -newer \
        "$target" -name '*.[ch]*' -print -quit) ]]; then
    return
  fi
  while (($(jobs -rp | wc -l) >= $(nproc))); do wait -n || true; done
  { "$@" -c "$source" -o "$target" || echo "$source" >>"$failed"; } &
}
object src/distance/kernels_scalar.cc "${host[@]}" "${kernel[@]}"
object src/distance/kernels_avx2.cc "${host[@]}" "${kernel[@]}" -mavx2 -mfma \
  -mf16c
object src/distance/kernels_avx512.cc "${host[@]}" "${kernel[@]}" -mavx512f \
  -mavx512bw -mavx512dq -mavx512vl -mfma -mf16c
object src/distance/kernels_pair_scalar.cc "${host[@]}" "${kernel[@]}"
object src/distance/kernels_pair_avx2.cc "${host[@]}" "${kernel[@]}" -mavx2 \
  -mfma -mf16c
object src/distance/kernels_pair_avx512.cc "${host[@]}" "${kernel[@]}" \
  -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma -mf16c
object src/base/check.cc "${host[@]}"
object src/base/half.cc "${host[@]}"
object src/distance/kernels_codes_scalar.cc "${host[@]}" "${kernel[@]}"
object src/distance/kernels_codes_avx2.cc "${host[@]}" "${kernel[@]}" -mavx2 \
  -mfma -mf16c
object src/distance/kernels_codes_avx512.cc "${host[@]}" "${kernel[@]}" \
  -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni -mfma -mf16c
object src/distance/kernels_maxsim_scalar.cc "${host[@]}" "${kernel[@]}"
object src/distance/kernels_maxsim_avx2.cc "${host[@]}" "${kernel[@]}" -mavx2 \
  -mfma -mf16c
object src/distance/kernels_maxsim_avx512.cc "${host[@]}" "${kernel[@]}" \
  -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni -mfma -mf16c
for source in src/distance/gpu/*.cc; do object "$source" "${host[@]}"; done
for source in src/distance/gpu/*.cu; do
  if [[ $source == *_sm90.cu ]]; then  # of Hopper's own instructions
    object "$source" "${hopper[@]}"
  else
    object "$source" "${device[@]}"
  fi
done
library=("${objects[@]}")
objects=()
# What code records are compared with.
object quant/scalar_levels.cc "${host[@]}"
for source in tests/distance/gpu/*.cc; do
  case "$source" in
    */backend_test.cc | */reference_backend.cc) ;;  # these need GoogleTest
    *) object "$source" "${host[@]}" ;;
  esac
done
test_objects=("${objects[@]}")
objects=()
object bench/gpu/gpu_bench.cu "${device[@]}"
object bench/gpu/code_bench.cu "${device[@]}"
object bench/gpu/rates.cu "${device[@]}"
object bench/gpu/maxsim_bench.cu "${device[@]}"
object bench/gpu/train_bench.cu "${device[@]}"
wait
if [[ -e $failed ]]; then
  echo "gpu_test: did not compile: $(tr '\n' ' ' <"$failed")" >&2
  exit 1
fi
nvcc -cudart static "${library[@]}" "${test_objects[@]}" -o "$build/gpu_tests"
nvcc -cudart static "${library[@]}" "${objects[@]}" -o "$build/gpu_bench"

if $tests; then "$build/gpu_tests" --filter "$filter"; fi
if $bench; then
  name="$(nvidia-smi --query-gpu=name --format=csv,noheader -i 0 |
    tr 'A-Z ' 'a-z-')"
  "$build/gpu_bench" "${OUT:-bench/results}/gpu-$name.json" "$filter"
  if [[ -z $filter ]] && python3 -c 'import torch' 2>/dev/null; then
    python3 bench/gpu/peers_gpu.py
  fi
fi
