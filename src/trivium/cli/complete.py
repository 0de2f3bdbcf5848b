"""What the shell offers while a word is being typed; called by the completion that ``--install-completion`` sets up.

Lists are those of the library, read when they are asked for; of a list with commas the last word is completed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

__all__ = ["designs", "formats", "metrics", "models", "one_of", "optimizers", "steps"]

HIDDEN = ("null", "count")  # models for tests of what carries them


def one_of(*names: str) -> Callable[[str], list[str]]:
    """A completion from ``names``."""

    def offer(incomplete: str) -> list[str]:
        return _starting(incomplete, names)

    return offer


def _starting(incomplete: str, names: Iterable[str]) -> list[str]:
    return sorted(name for name in names if name.startswith(incomplete))


def _last_word(incomplete: str, names: Iterable[str]) -> list[str]:
    said, comma, word = incomplete.rpartition(",")
    return [f"{said}{comma}{name}" for name in _starting(word, names)]


def models(incomplete: str) -> list[str]:
    """Models; a program of one's own is a file, which the shell completes."""
    from trivium.program.models import NAMES

    takes = {"mlp": "mlp:", "fm": "fm:"}
    return _starting(incomplete, (takes.get(name, name) for name in NAMES if name not in HIDDEN))


def designs(incomplete: str) -> list[str]:
    """Designs."""
    from trivium.plan import DESIGNS

    return _starting(incomplete, DESIGNS)


def optimizers(incomplete: str) -> list[str]:
    """Optimizers."""
    from trivium.program.optimizers import NAMES

    return _starting(incomplete, NAMES)


def metrics(incomplete: str) -> list[str]:
    """Metrics, after a comma too."""
    from trivium.program.metrics import METRICS

    return _last_word(incomplete, METRICS)


def formats(incomplete: str) -> list[str]:
    """Formats of data."""
    from trivium.data.read import FORMATS

    return _starting(incomplete, FORMATS)


def steps(incomplete: str) -> list[str]:
    """Steps of ``--prep``, after a comma too."""
    from trivium.data.transforms.prep import NAMES

    return _last_word(incomplete, NAMES)
