"""Runs the shapes in turns, and collects the figures."""

import sys
import tempfile

from . import machine
from .servers import Bench
from .shapes import SHAPES, Growth


def measure(names, rounds, congestions, described):
    """Everything that was measured, as plain data."""
    figures = []
    with tempfile.TemporaryDirectory(prefix="compare-") as folder:
        bench = Bench(folder)
        for congestion in congestions:
            if congestion != machine.congestion():
                machine.use_congestion(congestion)
            is_first = congestion == congestions[0]
            chosen = [name for name in names if is_first or SHAPES[name].paced]
            try:
                for number, name in enumerate(chosen):
                    say(f"{congestion}, {number + 1} of {len(chosen)}: {name}")
                    figures.append(figure(bench, name, rounds, congestion))
            finally:
                # A socket keeps the congestion control that it began with.
                bench.stop()
    say("")
    return {"machine": described, "rounds": rounds, "figures": figures}


def figure(bench, name, rounds, congestion):
    shape = SHAPES[name]
    found = {
        "shape": name,
        "title": shape.title,
        "unit": shape.unit,
        "less": shape.less,
        "says": shape.says,
        "congestion": congestion if shape.paced else None,
        "ours": next(iter(shape.contenders)),
        "reference": shape.reference,
    }
    if isinstance(shape, Growth):
        places = shape.places
        columns = [growth(bench, shape, place, rounds) for place in places]
        values = {who: [column[who] for column in columns] for who in shape.contenders}
        return {**found, "axis": shape.axis, "places": places, "values": values}
    values = {who: [] for who in shape.contenders}
    # The first round prepares caches, and does not count.
    for turn in range(rounds + 1):
        # The contender that comes first in one round comes last in the next.
        for who in list(values) if turn % 2 else reversed(list(values)):
            value = shape.measure(bench, who)
            if turn:
                values[who].append(value)
    return {**found, "values": values}


def growth(bench, shape, place, rounds):
    """The figures of each contender at one place of the axis."""
    values = {who: [] for who in shape.contenders}
    for who, value in shape.grow(bench, place, rounds + 1):
        values[who].append(value)
    return {who: each[1:] for who, each in values.items()}


def say(text):
    """Shows progress where somebody watches."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
    elif text:
        print(text, file=sys.stderr, flush=True)
