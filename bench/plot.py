"""Draws what vicinal_codec_curves measured: one SVG per set, and a table.

    bench/plot.py DOCS_FOLDER RESULT.json...

Writes DOCS_FOLDER/img/codecs-SET.svg, SET being what follows "codecs-" in the
name of the result, and puts images and table between the marks of
DOCS_FOLDER/codecs.md. Needs nothing but Python.
"""

import html
import json
import math
import pathlib
import sys

WIDTH, HEIGHT = 760, 440
LEFT, RIGHT, TOP, BOTTOM = 64, 150, 52, 48
RECALLS = [0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998]
LABEL_GAP = 17
# One hue for each family, darker for more bits; none is grey. All of them
# reach a contrast of 3 on the background, which the file brings along.
COLORS = {
    "none": "#52514e",
    "saq:1": "#6da7ec",
    "saq:2": "#3987e5",
    "saq:4": "#1c5cab",
    "saq:8": "#0d366b",
    "rbq:4": "#eb6834",
    "sq8": "#008300",
}
BACKGROUND, INK, MUTED, GRID = "#fcfcfb", "#0b0b0b", "#52514e", "#e1e0d9"
BEGIN, END = "<!-- codec curves: bench/plot.sh -->", "<!-- end of curves -->"


def x_of(recall):
    """Equal steps for equal factors of 1 - recall."""
    low, high = -math.log(1 - RECALLS[0]), -math.log(1 - RECALLS[-1])
    share = (-math.log(max(1 - recall, 1e-9)) - low) / (high - low)
    return LEFT + share * (WIDTH - LEFT - RIGHT)


def clipped(points):
    """The curve within the recalls shown, cut at both edges."""
    out = []
    for before, after in zip(points, points[1:]):
        for edge in (RECALLS[0], RECALLS[-1]):
            if before["recall"] < edge < after["recall"]:
                share = (x_of(edge) - x_of(before["recall"])) / (
                    x_of(after["recall"]) - x_of(before["recall"])
                )
                qps = before["qps"] * (after["qps"] / before["qps"]) ** share
                out.append((edge, qps))
    out += [(p["recall"], p["qps"]) for p in points]
    return sorted(p for p in out if RECALLS[0] <= p[0] <= RECALLS[-1])


def spread(wanted, gap, low, high):
    """Positions near `wanted`, which rises, at least `gap` apart."""
    out = []
    for y in wanted:
        out.append(max(y, out[-1] + gap if out else low))
    limit = high
    for i in reversed(range(len(out))):
        out[i] = min(out[i], limit)
        limit = out[i] - gap
    return out


def ticks(low, high):
    steps = [m * 10.0**e for e in range(-2, 7) for m in (1, 1.5, 2, 3, 5, 7)]
    return [step for step in steps if low <= step <= high]


def text(x, y, words, fill=MUTED, anchor="start", extra=""):
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" fill="{fill}" '
        f'text-anchor="{anchor}"{extra}>{html.escape(words)}</text>'
    )


def draw(title, subtitle, curves, labels, colors, x_title):
    """curves: of each name (recall, value) by rising recall; values go up."""
    values = [value for points in curves.values() for _, value in points]
    low, high = min(values) / 1.1, max(values) * 1.1

    def y_of(value):
        share = math.log(value / low) / math.log(high / low)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    right = WIDTH - RIGHT
    out = [
        '<svg xmlns="http://www.w3.org/2000/svg"'
        f' viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
        ' role="img" font-size="12" font-family="system-ui, sans-serif">',
        f"<title>{html.escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="8" fill="{BACKGROUND}"/>',
        text(16, 24, title, INK, extra=' font-size="14" font-weight="600"'),
        text(16, 41, subtitle),
    ]
    for value in ticks(low, high):
        y = y_of(value)
        out.append(f'<path d="M{LEFT} {y:.1f}H{right}" stroke="{GRID}"/>')
        label = f"{value:,.0f}" if value >= 10 else f"{value:g}"
        out.append(text(LEFT - 8, y + 4, label, anchor="end"))
    floor = HEIGHT - BOTTOM
    for recall in RECALLS:
        x = x_of(recall)
        out.append(text(x, floor + 18, f"{recall:g}", anchor="middle"))
        out.append(f'<path d="M{x:.1f} {floor}v4" stroke="{MUTED}"/>')
    out.append(f'<path d="M{LEFT} {floor}H{right}" stroke="{MUTED}"/>')
    middle = (LEFT + right) / 2
    out.append(text(middle, HEIGHT - 12, x_title, anchor="middle"))
    for name, points in curves.items():
        path = "L".join(f"{x_of(r):.1f} {y_of(v):.1f}" for r, v in points)
        out.append(
            f'<path d="M{path}" fill="none" stroke="{colors[name]}"'
            ' stroke-width="2" stroke-linejoin="round"/>'
        )
    # Labels at the right, each joined to the end of its curve.
    ends = sorted((y_of(curves[name][-1][1]), name) for name in curves)
    places = spread([y for y, _ in ends], LABEL_GAP, TOP + 6, floor - 4)
    for (y, name), place in zip(ends, places):
        x, color = x_of(curves[name][-1][0]), colors[name]
        out.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{color}"/>')
        out.append(
            f'<path d="M{x:.1f} {y:.1f}L{right + 14} {place:.1f}h6"'
            f' fill="none" stroke="{color}" stroke-opacity="0.6"/>'
        )
        out.append(text(right + 24, place + 4, labels[name], INK))
    return "\n".join(out) + "\n</svg>\n"


def svg_of(result):
    curves = {c["codec"]: clipped(c["points"]) for c in result["codecs"]}
    curves = {name: points for name, points in curves.items() if points}
    labels = {
        c["codec"]: f"{c['codec']}, {c['record_bytes']:,} bytes"
        for c in result["codecs"]
    }
    data = result["dataset"]
    size = f"{data['rows']:,} vectors, {data['dim']} dimensions"
    return draw(
        f"{data['name']}: {size}",
        "queries per second of one thread; bytes of a code",
        curves,
        labels,
        COLORS,
        f"recall@{data['k']}",
    )


def table_of(results):
    """QPS as multiples of searches without codes, at two recalls."""
    names = [r["dataset"]["name"] for r in results]
    heads = [f"{name}: bytes | 0.95 | 0.99" for name in names]
    lines = [
        "| codec | " + " | ".join(heads) + " |",
        "|---" * (1 + 3 * len(results)) + "|",
    ]
    for i, codec in enumerate(results[0]["codecs"]):
        cells = [f"`{codec['codec']}`"]
        for result in results:
            mine, none = result["codecs"][i], result["codecs"][0]
            cells.append(f"{mine['record_bytes']:,}")
            for recall in ("0.95", "0.99"):
                qps = mine["qps_at_recall"][recall]
                base = none["qps_at_recall"][recall]
                cells.append(f"{qps / base:.2f}x" if qps and base else "-")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main():
    docs = pathlib.Path(sys.argv[1])
    paths = [pathlib.Path(name) for name in sys.argv[2:]]
    results = [json.loads(path.read_text()) for path in paths]
    (docs / "img").mkdir(exist_ok=True)
    body = [
        "QPS at a recall@10 as a multiple of searches without codes, and bytes"
        " of a vector's\ncode (of its floats for `none`); links take some 140"
        " more. A dash: not reached.",
        table_of(results),
    ]
    for path, result in zip(paths, results):
        image = f"img/{path.stem}.svg"
        (docs / image).write_text(svg_of(result))
        name = result["dataset"]["name"]
        body.append(f"![{name}: recall against queries per second]({image})")
    page = docs / "codecs.md"
    before, rest = page.read_text().split(BEGIN)
    after = rest.split(END)[1]
    page.write_text(before + "\n\n".join([BEGIN, *body, END]) + after)


if __name__ == "__main__":
    main()
