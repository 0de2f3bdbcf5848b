"""The rooms of the plane: memory, lanes' deltas, sums, F, evaluation, snapshots, and what nodes exchange."""
