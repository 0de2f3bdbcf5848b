"""Readers: one file a format, each a function from a path or a name to a ``Table``."""
