#!/usr/bin/env bash
# Installs the Debian 12 packages that Vicinal is built from. Safe to run at
# any time: when nothing is missing it needs neither network nor root.
set -euo pipefail

usage() {
  cat <<'USAGE'
Usage: scripts/setup.sh [--dev] [--peers] [--check] [--help]

Installs what is missing to build, test and demonstrate Vicinal on Debian 12
(or a derivative with the same packages), through apt-get and nothing else.

  --dev     also the formatter and linters (clang-format-19, clang-tidy-19,
            shellcheck) and clang-19 with libFuzzer, where the distribution has
            them
  --peers   also the libraries that the benchmarks compare with (hnswlib, faiss)
  --check   install nothing; exit 1 and name what is missing
  --help    this text
USAGE
}

base_packages=(
  # Tools.
  build-essential ccache cmake git ninja-build pkg-config
  # Server, client and wire format.
  libgrpc++-dev libprotobuf-dev protobuf-compiler protobuf-compiler-grpc
  libcli11-dev libspdlog-dev nlohmann-json3-dev
  # Engine and storage.
  libabsl-dev librocksdb-dev libopenblas-serial-dev liblapacke-dev
  # Text: words and stemmers.
  libicu-dev libstemmer-dev
  # Import formats.
  libhdf5-dev zlib1g-dev
  # Tests, benchmarks, and the data of the demo.
  libgtest-dev libgmock-dev libbenchmark-dev dataset-fashion-mnist
)
dev_packages=(
  clang-format-19 clang-tidy-19 shellcheck
  clang-19 libclang-rt-19-dev
)
# Debian's static libfaiss leaves it to its users to link BLAS and LAPACK.
peer_packages=(libhnswlib-dev libfaiss-dev libopenblas-serial-dev)

wanted=("${base_packages[@]}")
optional=()
check_only=false
for arg in "$@"; do
  case "$arg" in
    --dev) optional+=("${dev_packages[@]}") ;;
    --peers) wanted+=("${peer_packages[@]}") ;;
    --check) check_only=true ;;
    -h | --help)
      usage
      exit 0
      ;;
    *)
      echo "setup: unknown option '$arg'" >&2
      usage >&2
      exit 2
      ;;
  esac
done

say() { printf 'setup: %s\n' "$*"; }

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
  say "this is not a Debian system (no dpkg); install by hand:" >&2
  say "  ${wanted[*]}" >&2
  exit 1
fi

is_installed() {
  [[ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" == installed ]]
}

missing=()
for package in "${wanted[@]}" "${optional[@]}"; do
  is_installed "$package" || missing+=("$package")
done

if ((${#missing[@]} == 0)); then
  say "nothing is missing ($((${#wanted[@]} + ${#optional[@]})) packages checked)"
  exit 0
fi
say "missing: ${missing[*]}"
if $check_only; then
  exit 1
fi

as_root=()
if ((EUID != 0)); then
  if ! command -v sudo >/dev/null; then
    say "need root to install them: run as root, or install sudo" >&2
    exit 1
  fi
  as_root=(sudo)
fi
# A dpkg that asks questions would hang an unattended run.
apt() { "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get "$@"; }

say "apt-get update"
apt update -qq

# The optional ones are installed where the distribution has them.
install=()
for package in "${missing[@]}"; do
  if [[ " ${optional[*]} " == *" $package "* ]] &&
    ! apt-cache show "$package" >/dev/null 2>&1; then
    say "not available here, done without: $package"
  else
    install+=("$package")
  fi
done
if ((${#install[@]} > 0)); then
  say "apt-get install ${install[*]}"
  apt install -y -qq --no-install-recommends "${install[@]}"
fi
say "done"
