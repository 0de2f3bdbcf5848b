"""Sequential: one process with all the cores it is allowed; the baseline of every comparison."""
