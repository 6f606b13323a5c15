"""The figures as tables in Markdown."""

import statistics

from measured import table
from . import machine
from .findings import is_growth, name, number, ratio, sentence, summary


def report(results):
    """Everything that was measured, as text."""
    lines = [f"# {summary(results['figures'])}", ""]
    lines += [f"* {line}" for line in machine.sentences(results["machine"])]
    lines += [f"* rounds: {results['rounds']}, by {results['command']}", "", table(rows(results["figures"]))]
    for figure in filter(is_growth, results["figures"]):
        lines += ["", f"**{sentence(figure)}** ({figure['unit']})", "", table(growth(figure))]
    return "\n".join(lines)


def rows(figures):
    yield "figure", "unit", "server", "median", "from – to", "ratio", "from – to"
    for figure in figures:
        if is_growth(figure):
            continue
        for who, values in figure["values"].items():
            found = ratio(figure, who)
            against = who == figure["reference"] or not found
            ratios = ["1", ""] if against else [number(found.middle), f"{number(found.least)} – {number(found.most)}"]
            span = f"{number(min(values))} – {number(max(values))}"
            yield name(figure), figure["unit"], who, number(statistics.median(values)), span, *ratios


def growth(figure):
    yield figure["axis"], *figure["values"]
    for index, place in enumerate(figure["places"]):
        columns = (values[index] for values in figure["values"].values())
        yield f"{place:,}", *(
            f"{number(statistics.median(column))} ({number(min(column))} – {number(max(column))})" for column in columns
        )
