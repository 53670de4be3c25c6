"""Measurements of Pantry side by side with its peers: ``python -m benchmarks``, or ``make bench``.

Every figure is a ratio: ours and the peer's are measured in turn, in one run, on one machine, and the
medians are compared (DESIGN section 10). Nothing outside this package imports it.
"""
