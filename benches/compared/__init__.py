"""What `benches/compare` consists of.

machine    what the figures depend on: CPUs, kernel, congestion control, the cost of a wake-up
servers    the servers that are measured beside each other
shapes     what is measured, and what each figure means
rounds     runs the shapes in turns, and collects the figures
findings   ratios, ranges, and the sentence that says what was found
text       the figures as tables in Markdown
page       the figures as one HTML page
plot       the drawings of the page
"""
