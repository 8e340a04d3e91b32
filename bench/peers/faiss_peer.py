"""The newest faiss of PyPI as a peer of the benchmarks.

By itself it sweeps index factories over a data set and prints one JSON object
per line: {system, params, k, recall, qps, qps_single, bytes_per_vector, ...}.
qps is of all queries in one call, which spares faiss the cost of a call from
Python; qps_single of one call per query. Both use one thread and the processor
time of that thread (--clock wall: the wall clock). bytes_per_vector is the
size of the serialized index over its rows.

With --serve it builds one factory and answers commands for the C++ benchmarks
(bench/peers/faiss_python.cc has the protocol).

Needs faiss-cpu and numpy: bench/peers/faiss_venv.sh makes a python that has
them.
"""

import argparse
import gzip
import itertools
import json
import os
import re
import struct
import sys
import time

# faiss's BLAS would start threads of its own beside OpenMP's.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import faiss  # noqa: E402
import numpy as np  # noqa: E402

EFS = [10, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512]
NPROBES = [1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256]
K_FACTORS = [1, 2, 4, 8, 16]
FACTORIES = [
    "HNSW16,SQ8",
    "IVF{n},RaBitQfs",
    "IVF{n},RaBitQfs,RFlat",
    # RaBitQ's theory wants a random rotation, which this factory leaves out.
    "RR{dim},IVF{n},RaBitQfs",
    "RR{dim},IVF{n},RaBitQfs,RFlat",
    "RR{dim},IVF{n},RaBitQfs,Refine(SQ8)",
    "RR{dim},IVF{n},RaBitQfs4",
    "IVF{n},PQ{half}x4fs,RFlat",
    "IVF{n},PQ{half}x4fs,Refine(SQ8)",
]


def read_rows(path, max_rows=0):
    """fvecs, bvecs, npy or idx[.gz] as float32 rows; max_rows 0: all."""
    opener = gzip.open if path.endswith(".gz") else open
    if path.endswith(".npy"):
        rows = np.load(path, mmap_mode="r")
    elif path.endswith((".fvecs", ".bvecs")):
        dim = int(np.fromfile(path, dtype="<i4", count=1)[0])
        element = "<f4" if path.endswith(".fvecs") else "u1"
        record = np.dtype([("dim", "<i4"), ("row", element, (dim,))])
        rows = np.memmap(path, dtype=record, mode="r")["row"]
    else:
        with opener(path, "rb") as file:
            zero, kind, num_axes = struct.unpack(">HBB", file.read(4))
            if zero != 0 or kind != 8:
                sys.exit(f"{path}: neither fvecs, bvecs, npy nor idx of bytes")
            shape = struct.unpack(f">{num_axes}I", file.read(4 * num_axes))
            rows = np.frombuffer(file.read(), dtype="u1")
            rows = rows.reshape(shape[0], -1)
    if max_rows:
        rows = rows[:max_rows]
    return np.ascontiguousarray(rows, dtype=np.float32)


def read_truth(path):
    """ivecs or npy of row numbers."""
    if path.endswith(".npy"):
        return np.load(path)
    values = np.fromfile(path, dtype="<i4")
    return values.reshape(-1, values[0] + 1)[:, 1:]


class Judge:
    """Counts as RecallJudge in bench/ground_truth.h: a row whose distance does
    not exceed the true k-th one is a hit, so ties do not matter."""

    def __init__(self, base, queries, l2, truth, k):
        self.base, self.queries, self.l2, self.k = base, queries, l2, k
        self.worst = np.concatenate(
            [d.max(axis=1) for d in self._distances(truth[:, :k])]
        )

    def _distances(self, labels, block=256):
        for first in range(0, len(labels), block):
            query = self.queries[first : first + block, None, :]
            part = labels[first : first + block]
            rows = self.base[np.maximum(part, 0)]
            if self.l2:
                distance = ((rows - query) ** 2).sum(axis=2)
            else:
                distance = -(rows * query).sum(axis=2)
            distance[part < 0] = np.inf
            yield distance

    def recall(self, labels):
        hits, first = 0, 0
        for distance in self._distances(labels):
            worst = self.worst[first : first + len(distance), None]
            hits += np.minimum((distance <= worst).sum(axis=1), self.k).sum()
            first += len(distance)
        return float(hits) / (len(labels) * self.k)


def bytes_of(index):
    return faiss.serialize_index(index).nbytes


def padded_for(factory, rows):
    """faiss's eight-bit codes fall back to scalar code, four times slower,
    where the dimension is no multiple of 16: zeros make it one."""
    missing = -rows.shape[1] % 16
    if missing == 0 or not re.fullmatch(r"HNSW.*SQ.*", factory):
        return rows
    return np.pad(rows, ((0, 0), (0, missing)))


class Peer:
    """One factory over one data set; `width` is efSearch or nprobe."""

    def __init__(self, factory, base, l2, args):
        given = base.shape[1]
        base = padded_for(factory, base)
        num_rows, dim = base.shape
        lists = args.lists or 2 ** round(np.log2(4 * np.sqrt(num_rows)))
        self.factory = factory.format(n=lists, dim=dim, half=dim // 2)
        metric = faiss.METRIC_L2 if l2 else faiss.METRIC_INNER_PRODUCT
        index = faiss.index_factory(dim, self.factory, metric)
        self.index = index
        self.name = self.factory
        if dim != given:
            self.name += f" padded to {dim}"
        self.refines = hasattr(index, "k_factor")
        inner = index
        if self.refines:
            inner = faiss.downcast_index(index.base_index)
        self.is_graph = hasattr(inner, "hnsw")
        self.inner = inner
        if not self.is_graph:
            self.inner = faiss.extract_index_ivf(inner)
        if self.is_graph:
            self.inner.hnsw.efConstruction = args.ef_construction
        faiss.omp_set_num_threads(args.build_threads)
        start = time.monotonic()
        index.train(base)
        index.add(base)
        self.build_seconds = time.monotonic() - start
        faiss.omp_set_num_threads(1)
        self.bytes_per_vector = bytes_of(index) / num_rows
        # Without the vectors or codes that only refine.
        self.compact_bytes_per_vector = self.bytes_per_vector
        if self.refines:
            coarse = faiss.downcast_index(index.base_index)
            self.compact_bytes_per_vector = bytes_of(coarse) / num_rows

    def set_width(self, width, k_factor, k):
        if self.is_graph:
            self.inner.hnsw.efSearch = max(width, k)
        else:
            self.inner.nprobe = width
        if self.refines:
            self.index.k_factor = k_factor

    def widths(self):
        if self.is_graph:
            return EFS
        return [n for n in NPROBES if n <= self.inner.nlist]


def clock_of(name):
    return time.thread_time if name == "cpu" else time.monotonic


def batch_pass(index, queries, k, clock):
    """Seconds and labels of one call with all queries."""
    start = clock()
    _, labels = index.search(queries, k)
    return clock() - start, labels


def single_pass(index, queries, k, clock):
    """Seconds of one call per query, with arrays that are made before."""
    rows = [queries[i : i + 1] for i in range(len(queries))]
    distances = np.empty((1, k), dtype=np.float32)
    labels = np.empty((1, k), dtype=np.int64)
    start = clock()
    for row in rows:
        index.search(row, k, D=distances, I=labels)
    return clock() - start


def sweep(args, base, queries, l2):
    truth = read_truth(args.truth) if args.truth else None
    if truth is None or truth.shape[1] < max(args.k):
        metric = faiss.METRIC_L2 if l2 else faiss.METRIC_INNER_PRODUCT
        _, truth = faiss.knn(queries, base, max(args.k), metric=metric)
    judges = {k: Judge(base, queries, l2, truth, k) for k in args.k}
    clock = clock_of(args.clock)
    for factory in args.factory or FACTORIES:
        try:
            peer = Peer(factory, base, l2, args)
        except RuntimeError as error:
            print(f"{factory}: {error}", file=sys.stderr)
            continue
        rows = padded_for(factory, queries)
        k_factors = args.k_factors if peer.refines else [1]
        for k, width, k_factor in itertools.product(
            args.k, peer.widths(), k_factors
        ):
            peer.set_width(width, k_factor, k)
            point = measure(peer, rows, judges[k], args.passes, clock)
            params = {"efSearch" if peer.is_graph else "nprobe": width}
            if peer.refines:
                params["k_factor"] = k_factor
            name = f"faiss {faiss.__version__} {peer.name}"
            print(json.dumps({"system": name, "params": params, **point}))
            sys.stdout.flush()


def measure(peer, queries, judge, num_passes, clock):
    batches = [
        batch_pass(peer.index, queries, judge.k, clock)
        for _ in range(num_passes)
    ]
    single = min(
        single_pass(peer.index, queries, judge.k, clock)
        for _ in range(num_passes)
    )
    return {
        "k": judge.k,
        "recall": round(judge.recall(batches[-1][1]), 5),
        "qps": round(len(queries) / min(b[0] for b in batches), 1),
        "qps_single": round(len(queries) / single, 1),
        "bytes_per_vector": round(peer.bytes_per_vector, 1),
        "compact_bytes_per_vector": round(peer.compact_bytes_per_vector, 1),
        "build_seconds": round(peer.build_seconds, 2),
    }


def serve(args, base, queries, l2):
    peer = Peer(args.factory[0], base, l2, args)
    queries = padded_for(args.factory[0], queries)
    answer = {
        "version": faiss.__version__,
        "compiled": faiss.get_compile_options().strip(),
        "factory": peer.name,
        "build_seconds": peer.build_seconds,
        "refines": peer.refines,
        "is_graph": peer.is_graph,
        "bytes_per_vector": peer.bytes_per_vector,
        "compact_bytes_per_vector": peer.compact_bytes_per_vector,
    }
    print(json.dumps(answer), flush=True)
    if args.pin >= 0:
        os.sched_setaffinity(0, {args.pin})
    clock = clock_of(args.clock)
    with open(args.serve) as commands:
        for line in commands:
            command = json.loads(line)
            k = command["k"]
            peer.set_width(command["width"], command["k_factor"], k)
            seconds, labels = batch_pass(peer.index, queries, k, clock)
            labels.astype("<i4").tofile(command["labels"])
            print(json.dumps({"seconds": seconds}), flush=True)


def main():
    parser = argparse.ArgumentParser(description="faiss as a peer")
    add = parser.add_argument
    add("--base", required=True, help="fvecs, bvecs, npy or idx[.gz]")
    add("--queries", required=True)
    add("--truth", help="ivecs or npy; computed when not given")
    add("--metric", choices=["l2", "ip", "cosine"], default="l2")
    add("--max-rows", type=int, default=0, help="0: all")
    add("--max-queries", type=int, default=0, help="0: all")
    add("--factory", action="append", help="again for more; {n}, {dim}, {half}")
    add("--lists", type=int, default=0, help="n; 0: about 4 sqrt(rows)")
    add("--ef-construction", type=int, default=200)
    add("--k", type=int, action="append", help="default: 10 and 100")
    add("--k-factors", type=int, nargs="+", default=K_FACTORS)
    add("--passes", type=int, default=3, help="the best counts")
    add("--build-threads", type=int, default=os.cpu_count())
    add("--clock", choices=["cpu", "wall"], default="cpu")
    add("--pin", type=int, default=-1, help="CPU of the searches")
    add("--serve", help="reads commands from this pipe instead of a sweep")
    args = parser.parse_args()
    args.k = args.k or [10, 100]
    base = read_rows(args.base, args.max_rows)
    queries = read_rows(args.queries, args.max_queries)
    if args.metric == "cosine":
        for rows in (base, queries):
            lengths = np.linalg.norm(rows, axis=1, keepdims=True)
            rows /= np.maximum(lengths, 1e-30)
    run = serve if args.serve else sweep
    run(args, base, queries, args.metric == "l2")


if __name__ == "__main__":
    main()
