"""The figures as one HTML page, which needs nothing else."""

import html

from . import machine, plot
from .findings import is_growth, sentence, summary
from .text import growth, rows


def page(results):
    figures = results["figures"]
    title = summary(figures)
    facts = "".join(f"<li>{html.escape(line)}</li>" for line in machine.sentences(results["machine"]))
    plots = "".join(section(figure) for figure in figures)
    curves = "".join(
        f"<h3>{html.escape(sentence(figure))}</h3>{table(growth(figure))}" for figure in figures if is_growth(figure)
    )
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(title)}</title>
<style>{STYLE}</style>
<main>
<h1>{html.escape(title)}</h1>
<p>Each server has one thread and the first CPU, and its client the last. Ratios are taken within a round. What differs
by less than a tenth is level.</p>
<figure>{plot.overview(figures)}</figure>
<h2>The machine</h2>
<ul>{facts}<li>rounds: {results["rounds"]}, by <code>{html.escape(results["command"])}</code></li></ul>
<h2>Each figure</h2>
{plots}
<h2>The same as a table</h2>
{table(rows(figures))}
{curves}
</main>
</html>
"""


def section(figure):
    return f"<section><h3>{html.escape(sentence(figure))}</h3><figure>{plot.of(figure)}</figure></section>"


def table(rows):
    head, *rows = rows
    line = lambda cells, kind: "<tr>" + "".join(f"<{kind}>{html.escape(cell)}</{kind}>" for cell in cells) + "</tr>"
    body = "".join(line(row, "td") for row in rows)
    return f"<div class=table><table><thead>{line(head, 'th')}</thead><tbody>{body}</tbody></table></div>"


STYLE = """
:root { color-scheme: light dark; --back: #fff; --text: #1c2126; --faint: #5c6670; --grid: #e3e7eb; --line: #59636e;
  --ours: #0b63ce; --reference: #8b96a1; --other: #c6ced6; --ahead: #12783c; --level: #6a737d; --behind: #c2360b;
  --whisker: #1c2126; }
@media (prefers-color-scheme: dark) { :root { --back: #14181c; --text: #e8ecf0; --faint: #9aa5b0; --grid: #2a3138;
  --line: #9aa5b0; --ours: #58a6ff; --reference: #75818d; --other: #444e58; --ahead: #4cc27a; --level: #a8b2bc;
  --behind: #ff8f66; --whisker: #e8ecf0; } }
body { margin: 0; background: var(--back); color: var(--text); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 900px; margin: 0 auto; padding: 24px 20px 60px; }
h1 { font-size: 26px; line-height: 1.25; margin: 8px 0; }
h2 { font-size: 20px; margin: 36px 0 8px; }
h3 { font-size: 16px; margin: 26px 0 2px; }
figure { margin: 8px 0 0; }
svg { width: 100%; height: auto; font: 13px system-ui, sans-serif; fill: var(--text); }
svg .small { font-size: 12px; fill: var(--faint); }
svg .strong { font-weight: 600; }
svg .grid { stroke: var(--grid); }
svg .one { stroke: var(--line); stroke-width: 1.5; }
svg .whisker { stroke: var(--whisker); stroke-width: 1.5; }
svg .curve { fill: none; stroke-width: 2; }
svg .inside { fill: var(--back); }
svg .fill.ours { fill: var(--ours); } svg .fill.reference { fill: var(--reference); } svg .fill.other { fill: var(--other); }
svg .curve.ours, svg .whisker.ours { stroke: var(--ours); }
svg .curve.reference, svg .whisker.reference { stroke: var(--reference); }
svg .curve.other, svg .whisker.other { stroke: var(--other); }
svg .fill.ahead, svg text.ahead { fill: var(--ahead); } svg .whisker.ahead { stroke: var(--ahead); }
svg .fill.level, svg text.level { fill: var(--level); } svg .whisker.level { stroke: var(--level); }
svg .fill.behind, svg text.behind { fill: var(--behind); } svg .whisker.behind { stroke: var(--behind); }
.table { overflow-x: auto; }
table { border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums; margin: 8px 0; }
th, td { padding: 3px 12px 3px 0; border-bottom: 1px solid var(--grid); text-align: left; white-space: nowrap; }
code { font-size: 14px; }
"""
