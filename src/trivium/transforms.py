"""The steps between file and program: ``tv.transforms.Standardize()``, and the short form that ``--prep`` takes.

>>> import trivium as tv
>>> [step.name for step in tv.transforms.parse_prep("log1p,normalize")]
['log1p', 'normalize']
"""

from __future__ import annotations

from typing import Any

_NAMES = ("Hash", "Impute", "Log1p", "Normalize", "OneHot", "Standardize", "Tfidf", "Transform", "parse_prep")

__all__ = sorted(_NAMES)  # noqa: PLE0605 - the table is the list


def __getattr__(name: str) -> Any:
    if name in __all__:
        from trivium.data import transforms

        return getattr(transforms, name)
    raise AttributeError(f"trivium.transforms has no {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return list(__all__)
