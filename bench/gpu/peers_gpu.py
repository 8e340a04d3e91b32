"""What a user would do with PyTorch on the sizes of gpu_bench.cu: a matrix
product and topk. Prints one line per size; run it on the same machine."""
import sys
import time

import torch

torch.manual_seed(1)


def unit(n, dim, centres):
    rows = torch.empty(n, dim, device="cuda")
    for first in range(0, n, 100_000):
        m = min(100_000, n - first)
        x = centres[torch.randint(0, len(centres), (m,), device="cuda")]
        x = x + torch.randn(m, dim, device="cuda")
        rows[first:first + m] = x / x.norm(dim=1, keepdim=True)
    return rows


def median_ms(call, repeats):
    call()
    times = []
    for _ in range(repeats):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        call()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - begin)
    times.sort()
    return times[len(times) // 2] * 1e3


def search(rows, queries, k, room):
    """In parts that fit `room` scores."""
    step = max(1, room // len(rows))
    parts = [torch.topk(queries[i:i + step] @ rows.T, k).indices
             for i in range(0, len(queries), step)]
    return torch.cat(parts)


def maxsim():
    """5,000 documents of token vectors, padded to one length, as
    maxsim_bench.cu has them without padding."""
    num, dim, k = 5000, 128, 10
    ragged = torch.randint(20, 581, (num,), device="cuda")
    for name, lengths in (("300", torch.full_like(ragged, 300)),
                          ("ragged", ragged)):
        longest = int(lengths.max())
        docs = torch.randn(num, longest, dim, device="cuda")
        docs = (docs / docs.norm(dim=2, keepdim=True)).half()
        query = torch.randn(32, dim, device="cuda")
        query = (query / query.norm(dim=1, keepdim=True)).half()
        padding = torch.arange(longest, device="cuda") >= lengths[:, None]
        mask = padding[:, :, None] if padding.any() else None

        def product():
            return (docs.view(-1, dim) @ query.T).view(num, longest, 32)

        def einsum():
            return torch.einsum("bld,qd->blq", docs, query)

        def search(scores):
            scores = scores()
            if mask is not None:
                scores = scores.masked_fill(mask, -torch.inf)
            return torch.topk(scores.amax(1).float().sum(1), k)

        num_bytes = int(lengths.sum()) * dim * 2
        for call in (product, einsum):
            ms = median_ms(lambda: search(call), 20)
            print(f"torch f16 maxsim {name} {call.__name__}: {ms:.3f} ms "
                  f"{num_bytes / ms * 1e-6:.0f} GB/s of tokens")


def main():
    if sys.argv[1:] == ["maxsim"]:
        maxsim()
        return
    a = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    b = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    ms = median_ms(lambda: a @ b, 20)
    print(f"torch bf16 8192^3: {2 * 8192**3 / ms * 1e-9:.1f} TFLOP/s")
    for dim in map(int, sys.argv[1:] or ["768", "128"]):
        centres = torch.randn(1000, dim, device="cuda")
        exact = unit(1_000_000, dim, centres)
        asked = unit(10_240, dim, centres)
        rows, queries = exact.bfloat16(), asked.bfloat16()
        truth = torch.topk(asked[:100] @ exact.T, 10).indices
        found = search(rows, queries[:100], 10, 2_000_000_000)
        hits = (found[:, :, None] == truth[:, None, :]).any(2).float().mean()
        print(f"torch bf16 1000k x {dim} recall@10: {hits.item():.4f}")
        for batch, k in ((1, 10), (1024, 10), (10240, 10), (10240, 100)):
            ms = median_ms(
                lambda: search(rows, queries[:batch], k, 2_000_000_000), 3)
            print(f"torch bf16 1000k x {dim} batch {batch} k {k}: {ms:.3f} ms "
                  f"{batch / ms * 1e3:.0f} q/s")
    if not sys.argv[1:]:
        maxsim()


main()
