#!/usr/bin/env bash
# bench/peers/faiss_venv.sh [FOLDER]: makes a virtual environment with the
# newest faiss from PyPI (default: /tmp/faiss-venv) and prints its python, which
# is what --faiss-python of the benchmarks takes.
set -euo pipefail

folder=${1:-/tmp/faiss-venv}
if [ ! -x "$folder/bin/python" ]; then
  python3 -m venv "$folder"
fi
"$folder/bin/pip" install --quiet --upgrade faiss-cpu numpy >&2
"$folder/bin/python" -c 'import faiss; print("faiss", faiss.__version__)' >&2
echo "$folder/bin/python"
