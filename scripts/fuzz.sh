#!/usr/bin/env bash
# Fuzzes what parses bytes from outside, with libFuzzer.
set -euo pipefail

usage() {
  cat <<'USAGE'
Usage: scripts/fuzz.sh [--seconds N] [--jobs N] [--keep DIR] [TARGET...]

Builds the fuzz targets (tests/fuzz) with clang-19, AddressSanitizer and
UndefinedBehaviorSanitizer in build/fuzz, and runs each from its corpus.

  --seconds N   how long to fuzz in all, the build not counted (default: 60)
  --jobs N      parallel compilations and targets (default: all cores)
  --keep DIR    where inputs that reach something new are kept from run to run
                (default: forgotten at the end)
  TARGET        analyzer, field_index, filter, json, multi_encoder, text_query,
                token_codec or wordpiece (default: all)
  --help        this text

Exits 1 when a target failed; the input is then in build/fuzz/failures. Mend
the fault, and add the input to the target's corpus in tests/fuzz: every build
tests the corpus. Without clang-19 (scripts/setup.sh --dev installs it) nothing
is done, which fails only where CI=true.
USAGE
}

seconds=60
jobs=$(nproc)
keep=''
targets=()
while (($# > 0)); do
  case "$1" in
    --seconds)
      seconds="${2:?--seconds needs a number}"
      shift
      ;;
    --jobs)
      jobs="${2:?--jobs needs a number}"
      shift
      ;;
    --keep)
      keep=$(realpath -m "${2:?--keep needs a folder}")
      shift
      ;;
    -h | --help)
      usage
      exit 0
      ;;
    -*)
      echo "fuzz: unknown option '$1'" >&2
      usage >&2
      exit 2
      ;;
    *) targets+=("$1") ;;
  esac
  shift
done
for number in "$seconds" "$jobs"; do
  if ! [[ $number =~ ^[1-9][0-9]*$ ]]; then
    echo "fuzz: '$number' is not a whole number over 0" >&2
    exit 2
  fi
done
cd "$(dirname "${BASH_SOURCE[0]}")/.."

known=(analyzer field_index filter json multi_encoder text_query token_codec
  wordpiece)
((${#targets[@]} > 0)) || targets=("${known[@]}")
for target in "${targets[@]}"; do
  if [[ " ${known[*]} " != *" $target "* ]]; then
    echo "fuzz: no target '$target'; there are ${known[*]}" >&2
    exit 2
  fi
done

# libFuzzer is a package of its own: only a link tells whether it is there.
if ! echo 'extern "C" int LLVMFuzzerTestOneInput(const char*, unsigned long) {
             return 0; }' |
  clang++-19 -x c++ -fsanitize=fuzzer,address,undefined -o /dev/null - 2>/dev/null; then
  echo 'fuzz: clang-19 with libFuzzer is not installed; scripts/setup.sh --dev' \
    'installs it. Nothing was fuzzed.' >&2
  [[ ${CI:-} != true ]]
  exit
fi

log=$(mktemp "${TMPDIR:-/tmp}/vicinal-fuzz.XXXXXX")
cmake --preset fuzz >"$log" 2>&1 || {
  cat "$log"
  rm -f "$log"
  exit 1
}
rm -f "$log"
cmake --build --preset fuzz -j "$jobs" --target "${targets[@]/%/_fuzzer}"

# Files that a target writes are synced: in memory that costs nothing.
work=$(mktemp -d -p "$([[ -w /dev/shm ]] && echo /dev/shm || echo "${TMPDIR:-/tmp}")" \
  vicinal-fuzz.XXXXXX)
trap 'rm -rf "$work"' EXIT
failures=build/fuzz/failures
mkdir -p "$failures"

# One after the other on one core, together on more: in all N seconds of each.
rounds=$(((${#targets[@]} + jobs - 1) / jobs))
each=$((seconds / rounds > 0 ? seconds / rounds : 1))
symbolizer=external_symbolizer_path=$(command -v addr2line)
run_target() { # run_target NAME
  local found=${keep:-$work}/$1
  mkdir -p "$found" "$work/tmp"
  # Errors are no crash in themselves: only what the sanitizers or the target
  # say. An input that takes 10 s or 1 GiB is one.
  TMPDIR="$work/tmp" ASAN_OPTIONS="$symbolizer" \
    UBSAN_OPTIONS="print_stacktrace=1:$symbolizer" \
    "build/fuzz/tests/fuzz/$1_fuzzer" -max_total_time="$each" -timeout=10 \
    -rss_limit_mb=1024 -malloc_limit_mb=1024 \
    -artifact_prefix="$failures/$1-" "$found" "tests/fuzz/$1_corpus" \
    >"$work/$1.log" 2>&1
}

failed=0
pids=()
names=()
finish() { # waits for the targets that run
  local i
  for i in "${!pids[@]}"; do
    if wait "${pids[i]}"; then
      printf 'fuzz: %-12s %s\n' "${names[i]}" \
        "$(grep -o 'Done [0-9]* runs in [0-9]* second(s)' "$work/${names[i]}.log" | tail -1)"
    else
      failed=1
      printf 'fuzz: %-12s FAILED\n' "${names[i]}"
      grep -vE '^#[0-9]+[[:space:]]+(NEW|REDUCE|RELOAD|pulse|INITED)' \
        "$work/${names[i]}.log" | tail -60
    fi
  done
  pids=()
  names=()
}
for target in "${targets[@]}"; do
  run_target "$target" &
  pids+=($!)
  names+=("$target")
  ((${#pids[@]} < jobs)) || finish
done
finish
if ((failed)); then
  echo "fuzz: inputs that fail are in $failures"
fi
exit "$failed"
