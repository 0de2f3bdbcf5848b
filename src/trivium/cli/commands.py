"""Makes a command of a class of options: each field is a parameter, its annotation says how it is typed."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields
from typing import Any, TypeVar, get_type_hints

import typer

__all__ = ["command"]

T = TypeVar("T")


def command(app: typer.Typer, name: str, asked: type[T], epilog: str = "") -> Callable[[Callable[[T], int]], Any]:
    """Decorator: register a function of ``asked`` (a dataclass of options) as the command ``name``.

    Arguments (fields without ``typer.Option``) come in the order of the fields.
    """

    def register(run: Callable[[T], int]) -> Callable[..., int]:
        def call(**given: Any) -> int:
            return run(asked(**given))

        hints = get_type_hints(asked, include_extras=True)
        one = inspect.Parameter
        call.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [
                one(
                    field.name,
                    one.KEYWORD_ONLY,
                    default=one.empty if field.default is MISSING else field.default,
                    annotation=hints[field.name],
                )
                for field in sorted(fields(asked), key=lambda field: _is_option(hints[field.name]))  # type: ignore[arg-type]
            ]
        )
        call.__annotations__ = hints
        call.__doc__, call.__name__ = run.__doc__, run.__name__
        app.command(name, epilog=epilog)(call)
        return call

    return register


def _is_option(hint: Any) -> bool:
    return isinstance(hint.__metadata__[0], type(typer.Option()))
