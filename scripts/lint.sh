#!/usr/bin/env bash
# Style of the tree and of what changed in it.
set -euo pipefail

usage() {
  cat <<'USAGE'
Usage: scripts/lint.sh [--fix] [--tidy] [--base REV] [FILE...]

Checks the formatting of every C++ file (clang-format-19) and every script
(shellcheck); a tool that is not installed is reported and passed over.

  --fix        rewrite files that are not formatted
  --tidy       also run clang-tidy-19 over FILEs, or over the .cc files changed
               since REV; needs a configured build tree (build/dev,
               build/release or build/ci). Some 10 s per file
  --base REV   what --tidy compares with; default: origin/main, else HEAD
  --help       this text

Install the tools with scripts/setup.sh --dev. Exits 1 when something is wrong.
USAGE
}

fix=false
tidy=false
base=''
files=()
while (($# > 0)); do
  case "$1" in
    --fix) fix=true ;;
    --tidy) tidy=true ;;
    --base)
      base="${2:?--base needs a revision}"
      shift
      ;;
    -h | --help)
      usage
      exit 0
      ;;
    -*)
      echo "lint: unknown option '$1'" >&2
      usage >&2
      exit 2
      ;;
    *) files+=("$(realpath "$1")") ;;
  esac
  shift
done
cd "$(dirname "${BASH_SOURCE[0]}")/.."

failed=0
has() {
  command -v "$1" >/dev/null && return
  echo "lint: $1 is not installed, its check is left out"
  return 1
}
# Files of the tree by pattern, tracked or new.
tree_files() { git ls-files -z --cached --others --exclude-standard -- "$@"; }

if has clang-format-19; then
  mode=(--dry-run -Werror)
  $fix && mode=(-i)
  tree_files '*.cc' '*.h' '*.cu' '*.cuh' |
    xargs -0 -r clang-format-19 "${mode[@]}" || failed=1
fi

if has shellcheck; then
  tree_files '*.sh' .ci/run | xargs -0 -r shellcheck || failed=1
fi

if $tidy && has clang-tidy-19; then
  build=''
  for tree in build/dev build/release build/ci; do
    [[ -f $tree/compile_commands.json ]] && build=$tree && break
  done
  if [[ -z $build ]]; then
    echo 'lint: no build tree; run cmake --preset dev first' >&2
    exit 2
  fi
  if ((${#files[@]} == 0)); then
    if [[ -z $base ]]; then
      base=$(git rev-parse --verify -q origin/main || echo HEAD)
    fi
    mapfile -t files < <(git diff --name-only --diff-filter=d "$base" -- '*.cc')
  fi
  if ((${#files[@]} > 0)); then
    printf '%s\0' "${files[@]}" |
      xargs -0 -n 1 -P "$(nproc)" clang-tidy-19 --quiet -p "$build" || failed=1
  else
    echo "lint: no .cc file changed since $base"
  fi
fi

exit "$failed"
