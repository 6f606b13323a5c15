"""Ratios, their ranges, and the sentence that says what was found."""

import statistics

# Two servers that differ by less are level.
TIE = 1.10


class Ratio:
    """The figures of one contender over those of another, each within a round."""

    def __init__(self, values, others):
        ratios = [value / other for value, other in zip(values, others)]
        self.middle, self.least, self.most = statistics.median(ratios), min(ratios), max(ratios)

    def __str__(self):
        return f"{number(self.middle)} ({number(self.least)} to {number(self.most)})"


def ratio(figure, who):
    """The ratio of a contender to the reference, or nothing if there is no other."""
    reference = figure["values"].get(figure["reference"])
    if not reference or is_growth(figure):
        return None
    return Ratio(figure["values"][who], reference)


def is_growth(figure):
    return "places" in figure


def advantage(figure):
    """How many times better ours is than the reference: middle, least, most."""
    found = ratio(figure, figure["ours"])
    if not found:
        return None
    if figure["less"]:
        return 1 / found.middle, 1 / found.most, 1 / found.least
    return found.middle, found.least, found.most


def verdict(figure):
    """`ahead`, `level` or `behind`."""
    better = advantage(figure)[0]
    return "ahead" if better >= TIE else "level" if better > 1 / TIE else "behind"


def name(figure):
    """The title, and the congestion control if it makes a difference."""
    return f"{figure['title']}, {figure['congestion']}" if figure["congestion"] else figure["title"]


def sentence(figure):
    """What a figure says, in one sentence."""
    ours, reference = figure["ours"], figure["reference"]
    if is_growth(figure):
        first, last = (statistics.median(figure["values"][ours][place]) for place in [0, -1])
        places = figure["places"]
        return f"{name(figure)}: {places[-1]:,} cost {ours} {last / first:.1f} × what {places[0]:,} cost"
    values = figure["values"][ours]
    found = ratio(figure, ours)
    if not found:
        return f"{name(figure)}: {number(statistics.median(values))} {figure['unit']}"
    return f"{name(figure)}: {ours} {figure['says'].format(number(found.middle), reference)}"


def summary(figures):
    """The first sentence of the page."""
    servers = [figure for figure in figures if figure["ours"] == "SPDY/3.1"]
    judged = [verdict(figure) for figure in servers if ratio(figure, figure["ours"])]
    count = {word: judged.count(word) for word in ["ahead", "level", "behind"]}
    parts = [f"{word} in {count[word]}" for word in ["ahead", "level", "behind"] if count[word]]
    return f"SPDY/3.1 beside its rivals: {', '.join(parts)} of {len(judged)} figures" if judged else "Figures"


def number(value):
    """A number with three digits that matter."""
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
