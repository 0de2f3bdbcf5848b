"""Compiled arithmetic: tiles of rows by numba, dense programs by XLA. Each room loads when a kernel is made."""
