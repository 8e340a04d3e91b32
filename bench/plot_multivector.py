"""Draws what vicinal_multivector_curves measured: three SVGs per set, a table.

    bench/plot_multivector.py DOCS_FOLDER RESULT.json...

Writes DOCS_FOLDER/img/multivector-SET-GROUP.svg, SET being what follows
"multivector-" in the name of the result, and puts images and table between the
marks of DOCS_FOLDER/BENCHMARKS.md. Needs nothing but Python.
"""

import json
import pathlib
import sys

import plot

GROUPS = {
    "encoders": "encoders",
    "encodings": "bits of the codes of encodings",
    "tokens": "codecs of tokens",
}
PLACES = {
    "encoders": "in memory",
    "encodings": "in memory",
    "tokens": "in mapped codes",
}
COLORS = ["#0d366b", "#eb6834", "#008300", "#8a5fc7"]
BEGIN = "<!-- multi-vector curves: bench/plot.sh multivector -->"
END = "<!-- end of curves -->"


def front(points):
    """Those that no other beats in both recall and time, by rising recall."""
    out = []
    for point in sorted(points, key=lambda p: (p["p50_us"], -p["recall"])):
        if not out or point["recall"] > out[-1]["recall"]:
            out.append(point)
    return out


def in_ms(curve):
    points = [
        {"recall": p["recall"], "qps": p["p50_us"] / 1e3}
        for p in front(curve["points"])
    ]
    return plot.clipped(points)


def bytes_of(curve):
    """Of a document, of what the group is about."""
    kind = "token_code" if curve["group"] == "tokens" else "resident"
    return curve[kind + "_bytes"]


def label_of(curve):
    return f"{curve['name']}, {bytes_of(curve):,} bytes"


def svg_of(result, group):
    of_group = [c for c in result["curves"] if c["group"] == group]
    curves = {c["name"]: in_ms(c) for c in of_group}
    curves = {name: points for name, points in curves.items() if points}
    data = result["dataset"]
    return plot.draw(
        f"{data['name']}, {data['documents']:,} documents, "
        f"{data['tokens']:,} tokens: {GROUPS[group]}",
        "milliseconds of a search, one thread (p50): less is better; bytes of"
        f" a document {PLACES[group]}",
        curves,
        {c["name"]: label_of(c) for c in of_group},
        dict(zip([c["name"] for c in of_group], COLORS)),
        f"recall@{result['k']} of exact MaxSim",
    )


def at_recall(curve, recall):
    """Of the first point that has it."""
    for point in front(curve["points"]):
        if point["recall"] >= recall:
            return f"{point['p50_us'] / 1e3:.2f} ms, {point['compared']:.0f}"
    return "-"


def table_of(results):
    names = [r["dataset"]["name"] for r in results]
    heads = [f"{name}: bytes | 0.9 | 0.95 | 0.99" for name in names]
    lines = [
        "| | " + " | ".join(heads) + " |",
        "|---" * (1 + 4 * len(results)) + "|",
    ]
    for i, curve in enumerate(results[0]["curves"]):
        cells = [f"{GROUPS[curve['group']]}: {curve['name']}"]
        for result in results:
            mine = result["curves"][i]
            cells.append(f"{bytes_of(mine):,}")
            cells += [at_recall(mine, recall) for recall in (0.9, 0.95, 0.99)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main():
    plot.WIDTH, plot.RIGHT = 830, 220  # longer labels
    docs = pathlib.Path(sys.argv[1])
    paths = [pathlib.Path(name) for name in sys.argv[2:]]
    results = [json.loads(path.read_text()) for path in paths]
    (docs / "img").mkdir(exist_ok=True)
    body = [
        "Bytes of a document in memory (of codecs of tokens: in mapped codes),"
        " and p50 and documents\ncompared by coded tokens at a recall@10.",
        table_of(results),
    ]
    for path, result in zip(paths, results):
        for group in GROUPS:
            image = f"img/{path.stem}-{group}.svg"
            (docs / image).write_text(svg_of(result, group))
            name = result["dataset"]["name"]
            body.append(
                f"![{name}, {GROUPS[group]}: recall against time]({image})"
            )
    page = docs / "BENCHMARKS.md"
    before, rest = page.read_text().split(BEGIN)
    after = rest.split(END, 1)[1]
    page.write_text(before + "\n\n".join([BEGIN, *body, END]) + after)


if __name__ == "__main__":
    main()
