"""Tables joined by time with what is known of their instants: observations, and tables of other values.

`request` says what is wanted, `matching` decides which row goes with which, `instants` makes exact instants of
columns, `sources` gathers what is joined, `joining` puts the columns together.
"""
