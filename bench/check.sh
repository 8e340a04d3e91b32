#!/usr/bin/env bash
# bench/check.sh NAME [options]: builds what the check needs, measures every row
# of the issue's speed table in one run, prints
#   row | asked | measured | ok or short
# writes bench/results/NAME.json and ends with 1 when a row falls short.
# Options go to the check's program: `bench/check.sh foundation --help`.
# Run it on an otherwise quiet machine. BUILD_DIR: another build folder than
# build/release. OUT: another result file.
set -euo pipefail

usage() {
  echo "usage: bench/check.sh NAME [options]" >&2
  echo "names:$names" >&2
  exit 2
}

root=$(cd "$(dirname "$0")/.." && pwd)
names=
for file in "$root"/bench/check/*_check.cc; do
  name=$(basename "$file" _check.cc)
  names="$names $name"
done
[ $# -ge 1 ] || usage
name=$1
shift
[ -f "$root/bench/check/${name}_check.cc" ] || usage

build=${BUILD_DIR:-$root/build/release}
out=${OUT:-$root/bench/results/$name.json}
if [ ! -f "$build/build.ninja" ]; then
  cmake -S "$root" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release >&2
fi
cmake --build "$build" --target "vicinal_check_$name" >&2

exec "$build/bench/vicinal_check_$name" --out "$out" "$@"
