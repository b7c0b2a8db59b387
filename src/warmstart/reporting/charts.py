"""Small charts as inline SVG: no library, no script, coloured by the page's CSS variables.

Every function returns markup that is safe to place in a page; names from the data are escaped.
Lengths are in SVG user units, which are CSS pixels where a chart is not scaled.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup, escape

from warmstart.formatting import counted

WIDTH, HEIGHT = 360, 220
LEFT, RIGHT, TOP, BOTTOM = 40, 12, 14, 36
CELL = 13  # side of a heat map cell
NAME = 190  # room for a row's name
COLOURS = 6  # of lines, in the style sheet; from the next one on they come again
APART = 24  # least distance between two numbers on the x axis


def interval_bar(value: float, low: float | None, high: float | None, main: bool = True) -> Markup:
    """A score from 0 to 1 as a bar, with its interval, where there is one, as a band and the value
    as a tick."""
    if low is None or high is None:
        return _bar(min(1.0, max(0.0, value)), main, Markup(""))
    value, low, high = (min(1.0, max(0.0, number)) for number in (value, low, high))
    band = Markup('<rect class="band" x="{:.2f}" y="3" width="{:.2f}" height="4"/>')
    return _bar(value, main, band.format(100 * low, max(0.4, 100 * (high - low))))


def share_bar(value: float) -> Markup:
    """A share from 0 to 1 as a plain bar."""
    return _bar(min(1.0, max(0.0, value)), True, Markup(""))


def _bar(value: float, main: bool, band: Markup) -> Markup:
    return Markup(
        '<svg class="{}" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="track" width="100" height="10"/>'
        '<rect class="fill" width="{:.2f}" height="10"/>{}</svg>'
    ).format("bar main" if main else "bar", 100 * value, band)


def histogram(
    title: str, edges: Sequence[int], counts: Sequence[int], over: int, mark: int | None = None
) -> Markup:
    """Rows by length; bar i holds lengths from edges[i] to before edges[i + 1], and a last one,
    set apart, the `over` longer ones. `mark` is a length to draw a line at."""
    if not counts:
        return Markup("")
    slots = len(counts) + (2 if over else 0)
    slot = (WIDTH - LEFT - RIGHT) / slots
    rows: list[int] = [*counts, *([0, over] if over else [])]
    _, top, step = _axis([0.0, float(max(rows))])
    height, base = HEIGHT - TOP - BOTTOM, HEIGHT - BOTTOM
    parts = [_grid(0.0, top, step)]
    column = Markup(
        '<rect class="column" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}">'
        "<title>{}: {}</title></rect>"
    )
    for number, count in enumerate(rows):
        tall, label = count / top * height, f"{edges[-1]:,} and more"
        if number < len(counts):
            label = f"{edges[number]:,} to {edges[number + 1] - 1:,}"
        if count:
            x, wide = LEFT + number * slot + 0.5, max(slot - 1, 1)
            parts.append(column.format(x, base - tall, wide, tall, label, counted(count)))
    every = max(1, -(-len(counts) // 6))
    last = len(counts) - (2 if over else 0)
    for number in range(0, last + 1, every):
        parts.append(_text(LEFT + number * slot, base + 15, f"{edges[number]:,}", "middle"))
    if over:
        parts.append(_text(WIDTH - RIGHT, base + 15, "more", "end"))
    if mark is not None and mark <= edges[-1]:
        x = LEFT + mark / (edges[1] - edges[0]) * slot
        parts.append(Markup('<path class="mark" d="M{:.1f} {}V{}"/>').format(x, TOP, base))
    return _figure(title, Markup("").join(parts), Markup(""))


def line_chart(
    title: str, x: Sequence[float], series: Mapping[str, Sequence[float | None]], x_name: str
) -> Markup:
    """Lines over shared x values; each series is a name and its values, None where not measured."""
    values = [v for line in series.values() for v in line if v is not None]
    if not values or not x:
        return Markup("")
    low, high, step = _axis(values)
    span = (x[-1] - x[0]) or 1.0

    def at(xi: float, yi: float) -> tuple[float, float]:
        return (
            LEFT + (xi - x[0]) / span * (WIDTH - LEFT - RIGHT),
            TOP + (high - yi) / (high - low) * (HEIGHT - TOP - BOTTOM),
        )

    parts = [_grid(low, high, step), _ticks(x, at, x_name)]
    for number, line in enumerate(series.values()):  # the number is the colour
        points = [at(xi, yi) for xi, yi in zip(x, line, strict=True) if yi is not None]
        parts.append(_line(points, f"s{number % COLOURS}"))
    legend = Markup("").join(
        Markup('<span class="key k{}">{}</span>').format(i % COLOURS, name)
        for i, (name, line) in enumerate(series.items())
        if any(value is not None for value in line)
    )
    return _figure(title, Markup("").join(parts), legend)


def trade_off(
    title: str, points: Sequence[tuple[str, float, float, float, float]], x_name: str
) -> Markup:
    """Things with a price and a worth: each is its name, x, y, and the interval of y. The legend
    names the colours; a line across stands at the first one's y."""
    if not points:
        return Markup("")
    low, high, step = _axis([value for point in points for value in point[2:]])
    left, right, by = _axis([0.0, *(point[1] for point in points)])
    wide, tall = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def at(x: float, y: float) -> tuple[float, float]:
        return LEFT + (x - left) / (right - left) * wide, TOP + (high - y) / (high - low) * tall

    parts = [_grid(low, high, step)]
    parts.append(Markup('<path class="ideal" d="M{} {:.1f}H{}"/>').format(
        LEFT, at(0, points[0][2])[1], WIDTH - RIGHT))  # fmt: skip
    for number in range(round((right - left) / by) + 1):
        x = left + number * by
        end = "end" if x == right else "middle"
        parts.append(_text(at(x, low)[0], HEIGHT - BOTTOM + 15, f"{round(x, 9):,g}", end))
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 4, x_name, "middle"))
    for number, (name, x, y, least, most) in enumerate(points):
        px, py = at(x, y)
        mark = Markup(
            '<g class="s{}"><polyline points="{:.1f},{:.1f} {:.1f},{:.1f}"/>'
            '<circle cx="{:.1f}" cy="{:.1f}" r="4.5"><title>{}: {:,.4g} {}, {:.3f}</title></circle>'
            "</g>"
        )
        parts.append(mark.format(number % COLOURS, px, at(x, least)[1], px, at(x, most)[1], px, py,
                                 name, x, x_name, y))  # fmt: skip
    keys = (Markup('<span class="key k{}">{}</span>').format(n % COLOURS, p[0])
            for n, p in enumerate(points))  # fmt: skip
    return _figure(title, Markup("").join(parts), Markup(" ").join(keys))


def reliability_chart(
    before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]
) -> Markup:
    """Accuracy against confidence; points on the dashed line keep their word. Area = rows."""
    left, right, bottom, top = LEFT, WIDTH - RIGHT, HEIGHT - BOTTOM, TOP
    parts = [
        _grid(0.0, 1.0, 0.25, percent=True),
        Markup('<path class="ideal" d="M{} {}L{} {}"/>').format(left, bottom, right, top),
    ]
    dot = Markup(
        '<circle class="dot d{}" cx="{:.1f}" cy="{:.1f}" r="{:.1f}">'
        "<title>{}: {:.0%} sure, {:.0%} right</title></circle>"
    )
    most = max((row["rows"] for row in [*before, *after]), default=1) or 1
    for number, table in enumerate((before, after)):
        for row in table:
            if rows := row["rows"]:
                sure, hits = row["confidence"], row["accuracy"]
                cx, cy = left + sure * (right - left), bottom - hits * (bottom - top)
                radius = 2.5 + 7 * (rows / most) ** 0.5
                parts.append(dot.format(number, cx, cy, radius, counted(rows), sure, hits))
    for share, anchor in ((0.0, "start"), (0.5, "middle"), (1.0, "end")):
        parts.append(_text(left + share * (right - left), bottom + 15, f"{share:.0%}", anchor))
    parts.append(_text((left + right) / 2, HEIGHT - 4, "how sure it said it was", "middle"))
    legend = Markup('<span class="key k0">as it is</span>')
    legend += Markup('<span class="key k1">corrected</span>') if after else Markup("")
    return _figure("How often it was right, by how sure it was", Markup("").join(parts), legend)


def heat_map(matrix: Sequence[Sequence[int]], labels: Sequence[str]) -> Markup:
    """A confusion matrix of many classes: only cells that hold rows are drawn, names at the left.

    Columns carry the number of the class that its row's name begins with.
    """
    k, top = len(labels), 26
    width, height = NAME + k * CELL + 4, top + k * CELL + 4
    parts: list[Markup] = []
    for i, row in enumerate(matrix):
        y, total = top + i * CELL, sum(row) or 1
        name = labels[i] if len(labels[i]) <= 26 else labels[i][:25] + "…"
        parts.append(_text(NAME - 6, y + CELL - 3, f"{name} {i + 1}", "end"))
        if i % 5 == 4 or i == 0:
            parts.append(_text(NAME + i * CELL + CELL / 2, top - 6, str(i + 1), "middle"))
        for j, count in enumerate(row):
            if count:
                cell = Markup(
                    '<rect class="{}" x="{}" y="{}" width="{}" height="{}" fill-opacity="{:.2f}">'
                    "<title>{} taken for {}: {}</title></rect>"
                )
                look, opacity = "hit" if i == j else "miss", 0.25 + 0.75 * (count / total) ** 0.5
                x, side = NAME + j * CELL, CELL - 1
                parts.append(
                    cell.format(look, x, y, side, side, opacity, labels[i], labels[j], count)
                )
    frame = Markup('<rect class="frame" x="{}" y="{}" width="{}" height="{}"/>').format(
        NAME, top, k * CELL, k * CELL
    )
    return Markup(
        '<svg class="heat" width="{}" height="{}" role="img" aria-label="Confusion matrix of {} '
        'classes; the table of confusions beside it says the same in words">{}{}</svg>'
    ).format(width, height, k, frame, Markup("").join(parts))


def _figure(title: str, drawing: Markup, legend: Markup) -> Markup:
    """A drawing with its caption and legend."""
    return Markup(
        '<figure class="chart"><figcaption>{0}<span class="legend">{2}</span></figcaption>'
        '<svg viewBox="0 0 {3} {4}" role="img" aria-label="{0}">{1}</svg></figure>'
    ).format(title, drawing, legend, WIDTH, HEIGHT)


def _grid(low: float, high: float, step: float, percent: bool = False) -> Markup:
    """Horizontal lines with their values, from `low` to `high`."""
    parts: list[Markup] = []
    lines = round((high - low) / step)
    for number in range(lines + 1):
        y = HEIGHT - BOTTOM - number / lines * (HEIGHT - TOP - BOTTOM)
        value = low + number * step
        line = Markup('<path class="grid" d="M{} {:.1f}H{}"/>').format(LEFT, y, WIDTH - RIGHT)
        parts += [
            line,
            _text(LEFT - 6, y + 4, f"{value:.0%}" if percent else f"{round(value, 9):g}", "end"),
        ]
    return Markup("").join(parts)


def _ticks(x: Sequence[float], at: Any, name: str) -> Markup:
    """At most eight values along the x axis, and its name."""
    step = max(1, -(-len(x) // 8))
    base = HEIGHT - BOTTOM + 15
    marks: list[Markup] = []
    last = -float(APART)
    for xi in x[::step]:
        spot = at(xi, 0.0)[0]
        if spot - last >= APART:
            text = f"{xi:g}"
            fits = spot + 4 * len(text) <= WIDTH
            marks.append(_text(spot if fits else WIDTH, base, text, "middle" if fits else "end"))
            last = spot
    marks.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 4, name, "middle"))
    return Markup("").join(marks)


def _line(points: Sequence[tuple[float, float]], look: str) -> Markup:
    """A polyline with a dot at each point."""
    path = " ".join(f"{px:.1f},{py:.1f}" for px, py in points)
    dots = Markup("").join(
        Markup('<circle cx="{:.1f}" cy="{:.1f}" r="3"/>').format(px, py) for px, py in points
    )
    return Markup('<g class="{}"><polyline points="{}"/>{}</g>').format(look, path, dots)


def _text(x: float, y: float, text: str, anchor: str) -> Markup:
    """A piece of text, escaped."""
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(
        x, y, anchor, escape(text)
    )


def _axis(values: Sequence[float]) -> tuple[float, float, float]:
    """Round bounds that hold the values, and the round step between lines: 1, 2 or 5 times 10^n."""
    low, high = min(values), max(values)
    rough = max(high - low, 0.04) / 4
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * m for m in (1, 2, 5, 10) if size * m >= rough)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return round(first * step, 9), round(max(last, first + 1) * step, 9), step
