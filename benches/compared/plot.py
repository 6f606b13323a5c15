"""The drawings of the page, as SVG. Colours are classes, which the page defines for light and dark."""

import html
import math
import statistics

from .findings import advantage, is_growth, name, number, ratio, verdict

WIDTH = 860


class Drawing:
    """An SVG of a fixed width, to which shapes are added."""

    def __init__(self, height, label):
        self.height, self.label, self.parts = height, label, []

    def line(self, x1, y1, x2, y2, kind):
        self.parts.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>')

    def bar(self, x, y, width, height, kind):
        self.parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 1):.1f}" height="{height}" rx="2" class="{kind}"/>'
        )

    def dot(self, x, y, kind, radius=5):
        self.parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" class="{kind}"/>')

    def path(self, points, kind):
        drawn = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.parts.append(f'<polyline points="{drawn}" class="{kind}"/>')

    def text(self, x, y, words, kind="", anchor="start"):
        self.parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{kind}">{html.escape(words)}</text>'
        )

    def range(self, low, high, y, kind):
        """A whisker from one place to another."""
        self.line(low, y, high, y, kind)
        for x in [low, high]:
            self.line(x, y - 4, x, y + 4, kind)

    def __str__(self):
        head = f'<svg viewBox="0 0 {WIDTH} {self.height}" role="img" aria-label="{html.escape(self.label)}">'
        return head + "".join(self.parts) + "</svg>"


def overview(figures):
    """How many times better than the reference each figure is, from least to most."""
    figures = [figure for figure in figures if ratio(figure, figure["ours"])]
    left, right, top, row = 330, 170, 28, 24
    bottom = top + row * len(figures)
    lowest = min([0.5, *(advantage(figure)[1] for figure in figures)])
    highest = max([4.0, *(advantage(figure)[2] for figure in figures)])
    steps = range(math.floor(math.log2(lowest)), math.ceil(math.log2(highest)) + 1)
    low, high = steps[0], steps[-1]
    place = lambda value: left + (math.log2(value) - low) / (high - low) * (WIDTH - left - right)
    drawing = Drawing(bottom + 44, "How many times better than its rival each figure of SPDY/3.1 is")
    for step in steps:
        x = place(2.0**step)
        drawing.line(x, top - 6, x, bottom, "one" if step == 0 else "grid")
        drawing.text(x, top - 12, f"{2.0**step:g} ×", "small", "middle")
    drawing.text(place(1) - 8, bottom + 18, "◀ the rival is better", "small", "end")
    drawing.text(place(1) + 8, bottom + 18, f"{figures[0]['ours']} is better ▶" if figures else "", "small")
    drawing.text(place(1), bottom + 36, "times better, logarithmic; dot: median, bar: all rounds", "small", "middle")
    for index, figure in enumerate(figures):
        y = top + row * index + row / 2
        middle, least, most = advantage(figure)
        kind = verdict(figure)
        drawing.text(left - 12, y + 4, name(figure), "", "end")
        drawing.range(place(least), place(most), y, f"whisker {kind}")
        drawing.dot(place(middle), y, f"fill {kind}")
        drawing.text(WIDTH - right + 12, y + 4, f"{middle:.2f} × {figure['reference']}", kind)
    return str(drawing)


def bars(figure):
    """A bar for each contender: its ratio to the reference, with the range of all rounds."""
    ratios = {who: ratio(figure, who) for who in figure["values"]}
    left, right, top, row = 170, 270, 22, 30
    bottom = top + row * len(ratios)
    # A rival that is far off does not make all other bars short.
    most = min(max(found.most for found in ratios.values()), 4.0) * 1.05
    place = lambda value: left + min(value / most, 1) * (WIDTH - left - right)
    drawing = Drawing(bottom + 40, name(figure))
    step = 0.25 if most < 1.6 else 0.5 if most < 3 else 1
    for index in range(math.floor(most / step) + 1):
        x = place(index * step)
        drawing.line(x, top - 4, x, bottom, "one" if index * step == 1 else "grid")
        drawing.text(x, top - 9, f"{index * step:g}", "small", "middle")
    for index, (who, found) in enumerate(ratios.items()):
        y = top + row * index + row / 2
        kind = "ours" if who == figure["ours"] else "reference" if who == figure["reference"] else "other"
        drawing.text(left - 12, y + 4, who, "strong" if kind == "ours" else "", "end")
        drawing.bar(left, y - 9, place(found.middle) - left, 18, f"fill {kind}")
        if found.middle > most:
            drawing.text(place(most) - 8, y + 4, "▶", "inside", "end")
        elif who != figure["reference"]:
            drawing.range(place(found.least), place(found.most), y, "whisker")
        figure_of = number(statistics.median(figure["values"][who]))
        words = figure_of if who == figure["reference"] else f"{figure_of} = {found}"
        drawing.text(WIDTH - right + 14, y + 4, words, "strong" if kind == "ours" else "")
    better = "less" if figure["less"] else "more"
    drawing.text(
        left, bottom + 20, f"ratio to {figure['reference']}; {better} is better. On the right: {figure['unit']}", "small"
    )
    return str(drawing)


def growth(figure):
    """A curve for each contender along a logarithmic axis, with the range of all rounds."""
    left, right, top, height = 60, 150, 16, 280
    bottom, places = top + height, figure["places"]
    highest = max(max(column) for columns in figure["values"].values() for column in columns) * 1.1
    first, last = math.log10(places[0]), math.log10(max(places[-1], places[0] * 10))
    across = lambda value: left + (math.log10(value) - first) / (last - first) * (WIDTH - left - right)
    up = lambda value: bottom - value / highest * height
    drawing = Drawing(bottom + 52, name(figure))
    step = nice_step(highest)
    for index in range(int(highest / step) + 1):
        drawing.line(left, up(index * step), WIDTH - right, up(index * step), "one" if index == 0 else "grid")
        drawing.text(left - 8, up(index * step) + 4, f"{index * step:g}", "small", "end")
    for place in places:
        drawing.line(across(place), bottom, across(place), bottom + 5, "one")
        drawing.text(across(place), bottom + 20, f"{place:,}", "small", "middle")
    drawing.text((left + WIDTH - right) / 2, bottom + 42, figure["axis"], "small", "middle")
    drawing.text(left, top - 4, figure["unit"], "small")
    ends = []
    for number_of, (who, columns) in enumerate(figure["values"].items()):
        kind = "ours" if who == figure["ours"] else "reference" if who == figure["reference"] else "other"
        points = [(across(place), up(statistics.median(column))) for place, column in zip(places, columns)]
        for (x, _), column in zip(points, columns):
            drawing.line(x, up(min(column)), x, up(max(column)), f"whisker {kind}")
        drawing.path(points, f"curve {kind}")
        for x, y in points:
            drawing.dot(x, y, f"fill {kind}", 4)
        ends.append([points[-1][1], f"{who}, {number(statistics.median(columns[-1]))}", kind])
    # Names that would lie on each other move apart.
    ends.sort()
    for above, below in zip(ends, ends[1:]):
        below[0] = max(below[0], above[0] + 16)
    for y, words, kind in ends:
        drawing.text(WIDTH - right + 12, y + 4, words, "strong" if kind == "ours" else "")
    return str(drawing)


def nice_step(highest):
    """The distance of lines, so that there are about five."""
    rough = highest / 5
    power = 10 ** math.floor(math.log10(rough))
    return next(power * factor for factor in [1, 2, 5, 10] if power * factor >= rough)


def of(figure):
    """The drawing of a figure, if it can be drawn."""
    if is_growth(figure):
        return growth(figure)
    return bars(figure) if ratio(figure, figure["ours"]) else ""
