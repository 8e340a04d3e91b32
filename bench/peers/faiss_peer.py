"""What the newest faiss does on one set: recall, queries per second on one
thread, bytes per vector. A peer of bench/check.sh quant.

    python3 -m venv /tmp/faiss && /tmp/faiss/bin/pip install faiss-cpu
    /tmp/faiss/bin/python bench/peers/faiss_peer.py --base base.f32 \\
        --queries query.f32 --dim 784 --metric l2 --k 10 --recall 0.95 0.99

The files are rows of little-endian f32. One JSON line per index and recall:
the fastest setting that reaches it. All queries go in one call on one thread,
which spares faiss the cost of a call from Python for each.
"""

import argparse
import json
import sys
import time

import faiss
import numpy as np


def indexes(dim, metric, wanted):
    lists = wanted["lists"]
    half = dim // 2
    return {
        "HNSW16,SQ8": ("ef", "HNSW16,SQ8"),
        "IVF,RaBitQfs+SQ8": ("nprobe", f"IVF{lists},RaBitQfs,Refine(SQ8)"),
        "IVF,RaBitQfs+Flat": ("nprobe", f"IVF{lists},RaBitQfs,RFlat"),
        "IVF,PQfs+SQ8": ("nprobe", f"IVF{lists},PQ{half}x4fs,Refine(SQ8)"),
        "IVF,PQfs+Flat": ("nprobe", f"IVF{lists},PQ{half}x4fs,RFlat"),
    }


def settings(kind, k):
    """Groups of settings, ever more work; within a group more reranking."""
    if kind == "ef":
        for ef in (10, 12, 16, 20, 24, 32, 48, 64, 96, 128, 192, 256, 400, 600):
            if ef >= k:
                yield [{"ef": ef}]
        return
    for nprobe in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256):
        yield [{"nprobe": nprobe, "factor": f} for f in (1, 2, 4, 8, 16)]


def apply(index, setting):
    if "ef" in setting:
        index.hnsw.efSearch = setting["ef"]
        return
    index.k_factor = setting["factor"]
    faiss.downcast_index(index.base_index).nprobe = setting["nprobe"]


def recall_of(found, truth):
    hits = sum(len(np.intersect1d(a, b)) for a, b in zip(found, truth))
    return hits / truth.size


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--base", required=True)
    parser.add_argument("--queries", required=True)
    parser.add_argument("--dim", type=int, required=True)
    parser.add_argument("--metric", choices=("l2", "ip"), required=True)
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--recall", type=float, nargs="+", default=[0.95, 0.99])
    parser.add_argument("--passes", type=int, default=3)
    parser.add_argument("--limit", type=int, default=1000, help="of the queries")
    parser.add_argument("--only", nargs="+", default=[])
    flags = parser.parse_args()
    base = np.fromfile(flags.base, dtype="<f4").reshape(-1, flags.dim)
    queries = np.fromfile(flags.queries, dtype="<f4").reshape(-1, flags.dim)
    queries = np.ascontiguousarray(queries[: flags.limit])
    metric = (
        faiss.METRIC_L2 if flags.metric == "l2" else faiss.METRIC_INNER_PRODUCT
    )
    exact = faiss.IndexFlat(flags.dim, metric)
    exact.add(base)
    _, truth = exact.search(queries, flags.k)
    lists = int(np.sqrt(len(base)))
    for name, (kind, factory) in indexes(
        flags.dim, metric, {"lists": lists}
    ).items():
        if flags.only and name not in flags.only:
            continue
        try:
            faiss.omp_set_num_threads(2)
            owner = faiss.index_factory(flags.dim, factory, metric)
            # Borrows from its owner, which must live as long.
            index = faiss.downcast_index(owner)
            if kind == "ef":
                index.hnsw.efConstruction = 200
            started = time.time()
            index.train(base)
            index.add(base)
            built = time.time() - started
            faiss.omp_set_num_threads(1)
        except RuntimeError as error:
            print(json.dumps({"index": name, "error": str(error)[:300]}))
            continue
        size = len(faiss.serialize_index(index)) / len(base)
        points = []
        enough = max(flags.recall) + 0.002
        for group in settings(kind, flags.k):
            last = -1.0
            for setting in group:
                apply(index, setting)
                best = float("inf")
                for _ in range(flags.passes):
                    started = time.process_time()
                    _, found = index.search(queries, flags.k)
                    best = min(best, time.process_time() - started)
                recall = recall_of(found, truth)
                points.append((recall, len(queries) / best, setting))
                if recall < last + 0.001:
                    break  # more reranking gains nothing
                last = recall
            if last >= enough:
                break
        for target in flags.recall:
            reached = [p for p in points if p[0] >= target]
            if not reached:
                print(json.dumps({"index": name, "target": target,
                                  "error": "not reached"}))
                continue
            recall, qps, setting = max(reached, key=lambda p: p[1])
            print(json.dumps({
                "index": name, "k": flags.k, "target": target,
                "recall": round(recall, 4), "qps": round(qps),
                "setting": setting, "bytes_per_vector": round(size, 1),
                "build_seconds": round(built, 2)}))
            sys.stdout.flush()


if __name__ == "__main__":
    main()
