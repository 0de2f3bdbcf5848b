"""Filters: what goes between nodes, in fewer bytes. ``base`` has the contract, ``budget`` who goes first."""

from trivium.designs.ps.filters.base import Buffer, Context, Figures, Filter, Objective, UnknownKeys
from trivium.designs.ps.filters.chain import FILTERS, Chain, parse_filters
from trivium.designs.ps.filters.kkt import Kkt

__all__ = [
    "FILTERS",
    "Buffer",
    "Chain",
    "Context",
    "Figures",
    "Filter",
    "Kkt",
    "Objective",
    "UnknownKeys",
    "parse_filters",
]
