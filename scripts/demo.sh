#!/usr/bin/env bash
# Imports 60,000 real vectors into a fresh server, searches them, kills the
# server and shows that nothing was lost. With --text, Debian's packages, which
# it then answers questions about.
set -euo pipefail

usage() {
  cat <<'USAGE'
Usage: scripts/demo.sh [--text] [--build-dir DIR] [--no-setup] [--help]

Installs what is missing, builds Vicinal, starts the server on a free port with
a temporary data folder, imports the 60,000 x 784 images of Fashion-MNIST, waits
for the index, runs the 10,000 test images as queries over gRPC against exact
ground truth, then kills the server with SIGKILL, starts it again and compares
the count and a sample of answers. Some 3 minutes on 2 cores after the build.

  --text           import the descriptions of Debian's packages, as apt knows
                   them, and answer questions that are typed, or come line by
                   line from standard input: words, or an expression that begins
                   with = : =+editor -vim "command line" pdf*
  --build-dir DIR  use the programs of this build tree, do not build
  --no-setup       do not look for missing packages
  --help           this text
USAGE
}

run_setup=true
text=false
build_dir=''
while (($# > 0)); do
  case "$1" in
    --build-dir)
      build_dir=$(realpath "${2:?--build-dir needs a folder}")
      shift
      ;;
    --no-setup) run_setup=false ;;
    --text) text=true ;;
    -h | --help)
      usage
      exit 0
      ;;
    *)
      echo "demo: unknown option '$1'" >&2
      usage >&2
      exit 2
      ;;
  esac
  shift
done
cd "$(dirname "${BASH_SOURCE[0]}")/.."

bold='' plain=''
if [[ -t 1 && -z ${NO_COLOR:-} ]]; then
  bold=$'\e[1m' plain=$'\e[0m'
fi
step() { printf '\n%s== %s ==%s\n' "$bold" "$*" "$plain"; }

if $run_setup; then scripts/setup.sh; fi
if [[ -z $build_dir ]]; then
  step 'Build'
  build_dir=$PWD/build/release
  cmake --preset release >/dev/null
  cmake --build --preset release --target vicinald vicinal
fi
vicinald=$build_dir/server/vicinald
images=/usr/share/datasets/fashion-mnist
train=$images/train-images-idx3-ubyte.gz
queries=$images/t10k-images-idx3-ubyte.gz

work=$(mktemp -d "${TMPDIR:-/tmp}/vicinal-demo.XXXXXX")
server=''
clean_up() {
  if [[ -n $server ]]; then
    kill "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
  fi
  rm -rf "$work"
}
trap clean_up EXIT

port=''
start_server() {
  rm -f "$work/port"
  local start=${EPOCHREALTIME/./}
  "$vicinald" --data "$work/data" --listen 127.0.0.1:0 \
    --port-file "$work/port" 2>>"$work/server.log" &
  server=$!
  until [[ -s $work/port ]]; do
    if ! kill -0 "$server" 2>/dev/null; then
      cat "$work/server.log" >&2
      return 1
    fi
    sleep 0.01
  done
  port=$(<"$work/port")
  printf 'vicinald serves on 127.0.0.1:%s, %d ms after its start\n' "$port" \
    $(((${EPOCHREALTIME/./} - start) / 1000))
}
vicinal() {
  "$build_dir/client/vicinal" --server "127.0.0.1:$port" --timeout 300 "$@"
}

sample() { # the count, and answers to a few queries without their times
  vicinal collection show fashion | grep -i points
  local row
  for row in 0 1234 2345 3456 9999; do
    echo "query $row:"
    vicinal search fashion --file "$queries" --row "$row" --ef 64 |
      sed 's/, [^,]* in the server$//'
  done
}

# Name, description and section of each package, one JSON object per line. apt
# knows those that could be installed, dpkg only those that are.
packages_as_json() {
  {
    if [[ -n $(apt-cache dumpavail 2>/dev/null | head -c 1) ]]; then
      apt-cache dumpavail
    else
      cat /var/lib/dpkg/status
    fi
  } | awk '
    function quoted(text) {
      gsub(/\\/, "\\\\", text)
      gsub(/"/, "\\\"", text)
      gsub(/[[:cntrl:]]/, " ", text)
      return "\"" text "\""
    }
    function flush() {
      if (name != "" && text != "" && !(name in seen)) {
        seen[name] = 1
        printf "{\"_id\": %s, \"name\": %s, \"description\": %s, " \
          "\"section\": %s}\n",
          quoted(name), quoted(name), quoted(text), quoted(section)
      }
      name = text = section = ""
      more = 0
    }
    /^$/ { flush() }
    /^Package: / { name = $2 }
    /^Section: / { section = $2 }
    /^Description(-en)?: / {
      sub(/^[^:]*: /, "")
      text = $0
      more = 1
      next
    }
    /^ / && more { text = text " " substr($0, 2); next }
    { more = 0 }
    END { flush() }'
}

answer() { # a line: words, or = and an expression
  local how=--text line=$1
  if [[ $line == =* ]]; then how=--match line=${line#=}; fi
  vicinal search packages "$how" "$line" -k 5 --text-field name^3 \
    --text-field description --highlight | grep -E '^[0-9]+\. |^   |hits' || true
}

if $text; then
  step 'Server'
  start_server
  packages_as_json >"$work/packages.jsonl"
  step "Import $(wc -l <"$work/packages.jsonl") packages; index their names and descriptions"
  vicinal import packages "$work/packages.jsonl" --create --id-field _id \
    --payload-field . --text name:english:positions \
    --text description:english:positions --wait-index
  step 'Ask'
  if [[ -t 0 ]]; then
    echo 'Words, or an expression: =+editor -vim "command line" pdf*'
    echo 'An empty line ends.'
  fi
  while printf '\n%s> %s' "$bold" "$plain" && IFS= read -r line &&
    [[ -n $line ]]; do
    [[ -t 0 ]] || echo "$line"
    answer "$line" || echo 'Ask otherwise.'
  done
  echo
  exit 0
fi

begin=$SECONDS
step 'Server'
start_server
step 'Import 60,000 vectors, durable when counted; then index them'
vicinal import fashion "$train" --create --metric l2 --type f32 --as f32 \
  --wait-index
step 'Collection'
vicinal collection show fashion
grep -E 'VmRSS' "/proc/$server/status" | awk '{
  printf "resident memory of the server: %.0f MiB\n", $2 / 1024 }'
step '10,000 queries over gRPC, 8 at a time, against exact ground truth'
vicinal bench fashion "$queries" --compute-truth --concurrency 8 \
  --ef 16,32,64,128 --recall 0.95,0.99
step 'Crash: SIGKILL, and again'
sample >"$work/before"
kill -KILL "$server"
wait "$server" 2>/dev/null || true
start_server
sample >"$work/after"
if ! diff -u "$work/before" "$work/after"; then
  echo 'demo: the answers after the crash differ' >&2
  exit 1
fi
head -1 "$work/after"
echo 'The count and the answers to 5 sample queries are the same as before.'
printf '\nDone in %d s.\n' $((SECONDS - begin))
