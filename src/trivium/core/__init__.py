"""Coordination without I/O: roles, lanes, terms, fixed-order sums, spans."""
