"""exp and log1p on the ranges that log losses need, written so that the compiler turns loops of them into vectors.

The C library's functions are calls, and a loop of calls stays scalar (about 20 ns a row). These are branch-free
polynomials: relative error below 4e-16 on their ranges, NaN in gives NaN out, -inf gives a tiny number.

Method: Cody and Waite's range reduction with a Taylor polynomial for exp; the area-tangent series for log1p. Callers
must not compile them with ``reassoc``, which would undo the reduction.
"""

# ruff: noqa: ARG001  the compiler's interface names arguments that a generator need not use

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = ["EXACT", "FAST", "exp_negative", "log1p_unit", "prefetch"]

EXACT = {"contract", "nsz"}  # keeps the order of operations as written
FAST = {"contract", "nsz", "reassoc", "arcp"}  # lets sums be cut into vector lanes: still one fixed order a machine

_ROUND = 6755399441055744.0  # 1.5 · 2⁵²: adding it leaves the nearest integer in the low bits


@intrinsic
def _bits(typing: Any, x: Any) -> Any:
    """The bits of a float64 as int64."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.IntType(64))

    return types.int64(types.float64), generate


@intrinsic
def _float(typing: Any, x: Any) -> Any:
    """The float64 that has the bits of an int64."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.DoubleType())

    return types.float64(types.int64), generate


@intrinsic
def prefetch(typing: Any, array: Any, at: Any) -> Any:
    """Ask for the cache line of ``array[at]``; any address is allowed, none is read."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        byte, word = ir.IntType(8).as_pointer(), ir.IntType(32)
        view = context.make_array(signature.args[0])(context, builder, args[0])
        address = builder.bitcast(builder.gep(view.data, [args[1]]), byte)
        kind = ir.FunctionType(ir.VoidType(), [byte, word, word, word])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
        builder.call(function, [address, word(0), word(2), word(1)])  # to read, into the second cache, as data
        return context.get_dummy_value()

    return types.void(array, types.uint64), generate


@njit(inline="always")
def exp_negative(x: float) -> float:
    """e^x for x ≤ 0, held at e^-708 below."""
    x = max(x, -708.0)
    k = x * 1.4426950408889634 + _ROUND
    n = k - _ROUND
    r = (x - n * 0.693147180369123816490) - n * 1.90821492927058770002e-10
    p = 1.6059043836821613e-10
    p = p * r + 2.08767569878681e-09
    p = p * r + 2.505210838544172e-08
    p = p * r + 2.755731922398589e-07
    p = p * r + 2.7557319223985893e-06
    p = p * r + 2.48015873015873e-05
    p = p * r + 1.984126984126984e-04
    p = p * r + 1.388888888888889e-03
    p = p * r + 8.333333333333333e-03
    p = p * r + 4.1666666666666664e-02
    p = p * r + 1.6666666666666666e-01
    p = p * r + 0.5
    p = p * r + 1.0
    p = p * r + 1.0
    return _float(_bits(p) + (_bits(k) << 52))


@njit(inline="always")
def log1p_unit(t: float) -> float:
    """log(1 + t) for 0 ≤ t ≤ 1: 2·artanh(t / (2 + t))."""
    s = t / (2.0 + t)
    z = s * s
    p = 1 / 31
    p = p * z + 1 / 29
    p = p * z + 1 / 27
    p = p * z + 1 / 25
    p = p * z + 1 / 23
    p = p * z + 1 / 21
    p = p * z + 1 / 19
    p = p * z + 1 / 17
    p = p * z + 1 / 15
    p = p * z + 1 / 13
    p = p * z + 1 / 11
    p = p * z + 1 / 9
    p = p * z + 1 / 7
    p = p * z + 1 / 5
    p = p * z + 1 / 3
    p = p * z + 1.0
    return 2.0 * s * p
