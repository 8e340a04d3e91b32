#!/usr/bin/env bash
# Builds Vicinal and runs all its tests: the one command that CI runs.
set -euo pipefail

usage() {
  cat <<'USAGE'
Usage: scripts/test.sh [--fast] [--sanitizers] [--no-setup] [--jobs N]

Installs what is missing, checks the style, builds with warnings as errors,
runs the fast tests and the slow ones; where CI=true, fuzzes for a minute in
between. Works from any folder; the build tree is kept, so a second run is
short. Exits 0 only when everything passed.

  --fast         only the tests that are quick
  --sanitizers   then builds and runs the fast tests again under AddressSanitizer
                 and UndefinedBehaviorSanitizer and, those without gRPC, under
                 ThreadSanitizer: two more builds, too long for every change
  --no-setup     do not look for missing packages
  --jobs N       parallel compilations and tests (default: all cores)
  --help         this text
USAGE
}

run_slow=true
run_sanitizers=false
run_setup=true
jobs=$(nproc)
while (($# > 0)); do
  case "$1" in
    --fast) run_slow=false ;;
    --sanitizers) run_sanitizers=true ;;
    --no-setup) run_setup=false ;;
    --jobs)
      jobs="${2:?--jobs needs a number}"
      shift
      ;;
    -h | --help)
      usage
      exit 0
      ;;
    *)
      echo "test: unknown option '$1'" >&2
      usage >&2
      exit 2
      ;;
  esac
  shift
done
cd "$(dirname "${BASH_SOURCE[0]}")/.."

bold='' red='' green='' plain=''
if [[ -t 1 && -z ${NO_COLOR:-} ]]; then
  bold=$'\e[1m' red=$'\e[31m' green=$'\e[32m' plain=$'\e[0m'
fi

# Stages: each is timed and listed at the end, passed or not.
names=()
results=()
times=()
failed_stages=0
stage() { # stage NAME COMMAND...: returns the command's status
  local name=$1 start=$SECONDS status=0
  shift
  printf '\n%s=== %s ===%s\n' "$bold" "$name" "$plain"
  "$@" || status=$?
  names+=("$name")
  times+=($((SECONDS - start)))
  if ((status == 0)); then
    results+=(ok)
  else
    results+=(FAILED)
    failed_stages=$((failed_stages + 1))
  fi
  return "$status"
}

passed_tests=0
failed_tests=0
log=$(mktemp "${TMPDIR:-/tmp}/vicinal-test.XXXXXX")
summary() {
  local status=$? i colour
  rm -f "$log"
  printf '\n%sSummary%s (%d jobs)\n' "$bold" "$plain" "$jobs"
  for i in "${!names[@]}"; do
    colour=$green
    [[ ${results[i]} == ok ]] || colour=$red
    printf '  %-28s %s%-6s%s %5d s\n' "${names[i]}" "$colour" "${results[i]}" \
      "$plain" "${times[i]}"
  done
  printf '  %-28s %-6s %5d s\n\n' total '' "$SECONDS"
  # A run that stopped before its tests did not pass.
  if ((failed_stages > 0 && failed_tests == 0)); then
    failed_tests=$failed_stages
  fi
  printf '%d passed, %d failed\n' "$passed_tests" "$failed_tests"
  ((failed_stages > 0 && status == 0)) && status=1
  exit "$status"
}
trap summary EXIT

build() { # build PRESET
  cmake --preset "$1" >"$log" 2>&1 || {
    cat "$log"
    return 1
  }
  cmake --build --preset "$1" -j "$jobs"
}

# run_tests PRESET LABEL: counts what passed and failed.
run_tests() {
  local status=0
  local closing='tests passed, ([0-9]+) tests failed out of ([0-9]+)'
  ctest --preset "$1" -L "^$2\$" -j "$jobs" 2>&1 | tee "$log" || status=$?
  if [[ $(<"$log") =~ $closing ]]; then
    failed_tests=$((failed_tests + BASH_REMATCH[1]))
    passed_tests=$((passed_tests + BASH_REMATCH[2] - BASH_REMATCH[1]))
  fi
  return "$status"
}

if $run_setup; then
  setup_options=()
  # CI checks the style; a visitor need not install the tools for that.
  [[ ${CI:-} == true ]] && setup_options+=(--dev)
  stage setup scripts/setup.sh "${setup_options[@]}"
fi
stage style scripts/lint.sh || true
stage 'build (ci)' build ci
stage 'fast tests' run_tests ci fast || true
if [[ ${CI:-} == true ]]; then
  stage fuzz scripts/fuzz.sh --seconds 60 --jobs "$jobs" || true
fi
if $run_slow; then
  stage 'slow tests' run_tests ci slow || true
fi
if $run_sanitizers; then
  for preset in asan tsan; do
    if stage "build ($preset)" build "$preset"; then
      stage "fast tests ($preset)" run_tests "$preset" fast || true
    fi
  done
fi
