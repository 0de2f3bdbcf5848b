"""Atomic words, futexes and raw copies over shared memory, as numba intrinsics with real fences.

Rules
-----
* A *word* is one int64 of a C-contiguous array over memory that several processes map. ``load``, ``store``,
  ``fetch_add`` and ``exchange_if`` are sequentially consistent: all processes see them in one order, and plain copies
  before a ``store`` are seen by whoever loads what it stored.
* ``copy_in`` and ``copy_out`` are plain memory copies with no order of their own; a word must publish them.
* A futex compares 32 bits: the low half of the word (both supported machines are little-endian). It is not a private
  futex, for the waiter and the waker are different processes.

On x86-64 a ``store`` is an ``xchg``; on aarch64 ``stlr`` and ``ldar``, which keep order among themselves. Indices are
not checked: callers compute them from a layout. Prior art: the C11 memory model; Drepper, *Futexes are tricky*, 2011.

What it does not do: no float atomics, no waiting on several words, no other machines.
"""

# ruff: noqa: ARG001 - numba passes its contexts and takes the arity from the signature
from __future__ import annotations

import platform
import sys
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = [
    "copy_in",
    "copy_out",
    "exchange_if",
    "fetch_add",
    "futex_wait",
    "futex_wake",
    "load",
    "monotonic_ns",
    "step",
    "store",
    "supported",
    "yield_cpu",
]

step = njit(nogil=True, cache=True)  # a step of a shared-memory algorithm: holds no lock of the interpreter

_SYS_FUTEX = {"x86_64": 202, "aarch64": 98}.get(platform.machine(), -1)
_FUTEX_WAIT, _FUTEX_WAKE = 0, 1
_CLOCK_MONOTONIC = 1
_I64, _I32, _I8P = ir.IntType(64), ir.IntType(32), ir.IntType(8).as_pointer()
_SECOND = 1_000_000_000


def supported() -> bool:
    """Whether this machine has the futex and the memory order that this module builds on."""
    return sys.platform == "linux" and _SYS_FUTEX > 0


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    return builder.gep(context.make_array(array_type)(context, builder, array).data, [index])


def _bytes_pointer(context: Any, builder: Any, array_type: Any, array: Any, offset: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.gep(builder.bitcast(data, _I8P), [offset])


def _external(builder: Any, name: str, result: Any, args: list[Any], variadic: bool = False) -> Any:
    kind = ir.FunctionType(result, args, var_arg=variadic)
    return cgutils.get_or_insert_function(builder.module, kind, name)


@intrinsic
def _load(typing: Any, words: Any, index: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        at = _pointer(context, builder, signature.args[0], args[0], args[1])
        return builder.load_atomic(at, "seq_cst", 8)

    return types.int64(words, types.int64), generate


@intrinsic
def _store(typing: Any, words: Any, index: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        at = _pointer(context, builder, signature.args[0], args[0], args[1])
        builder.store_atomic(args[2], at, "seq_cst", 8)
        return context.get_dummy_value()

    return types.void(words, types.int64, types.int64), generate


@intrinsic
def _fetch_add(typing: Any, words: Any, index: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        at = _pointer(context, builder, signature.args[0], args[0], args[1])
        return builder.atomic_rmw("add", at, args[2], "seq_cst")

    return types.int64(words, types.int64, types.int64), generate


@intrinsic
def _exchange_if(typing: Any, words: Any, index: Any, expected: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        at = _pointer(context, builder, signature.args[0], args[0], args[1])
        pair = builder.cmpxchg(at, args[2], args[3], "seq_cst", "seq_cst")
        return builder.zext(builder.extract_value(pair, 1), _I64)

    return types.int64(words, types.int64, types.int64, types.int64), generate


@intrinsic
def _copy_in(typing: Any, words: Any, at: Any, source: Any, offset: Any, count: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        target = _bytes_pointer(context, builder, signature.args[0], args[0], args[1])
        origin = _bytes_pointer(context, builder, signature.args[2], args[2], args[3])
        cgutils.raw_memcpy(builder, target, origin, args[4], 1)
        return context.get_dummy_value()

    return types.void(words, types.int64, source, types.int64, types.int64), generate


@intrinsic
def _copy_out(typing: Any, words: Any, at: Any, target: Any, offset: Any, count: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        origin = _bytes_pointer(context, builder, signature.args[0], args[0], args[1])
        place = _bytes_pointer(context, builder, signature.args[2], args[2], args[3])
        cgutils.raw_memcpy(builder, place, origin, args[4], 1)
        return context.get_dummy_value()

    return types.void(words, types.int64, target, types.int64, types.int64), generate


@intrinsic
def _futex_wait(typing: Any, words: Any, index: Any, expected: Any, timeout_ns: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        at = _pointer(context, builder, signature.args[0], args[0], args[1])
        limit = cgutils.alloca_once(builder, ir.ArrayType(_I64, 2))
        second = _I64(_SECOND)
        builder.store(builder.sdiv(args[3], second), cgutils.gep_inbounds(builder, limit, 0, 0))
        builder.store(builder.srem(args[3], second), cgutils.gep_inbounds(builder, limit, 0, 1))
        low = builder.trunc(args[2], _I32)
        call = _external(builder, "syscall", _I64, [_I64], variadic=True)
        return builder.call(call, [_I64(_SYS_FUTEX), at, _I32(_FUTEX_WAIT), low, limit])

    return types.int64(words, types.int64, types.int64, types.int64), generate


@intrinsic
def _futex_wake(typing: Any, words: Any, index: Any, count: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        at = _pointer(context, builder, signature.args[0], args[0], args[1])
        number = builder.trunc(args[2], _I32)
        call = _external(builder, "syscall", _I64, [_I64], variadic=True)
        return builder.call(call, [_I64(_SYS_FUTEX), at, _I32(_FUTEX_WAKE), number])

    return types.int64(words, types.int64, types.int64), generate


@intrinsic
def _yield_cpu(typing: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.call(_external(builder, "sched_yield", _I32, []), [])
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def _monotonic_ns(typing: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        now = cgutils.alloca_once(builder, ir.ArrayType(_I64, 2))
        call = _external(builder, "clock_gettime", _I32, [_I32, now.type])
        builder.call(call, [_I32(_CLOCK_MONOTONIC), now])
        seconds = builder.load(cgutils.gep_inbounds(builder, now, 0, 0))
        rest = builder.load(cgutils.gep_inbounds(builder, now, 0, 1))
        return builder.add(builder.mul(seconds, _I64(_SECOND)), rest)

    return types.int64(), generate


@step
def load(words: Any, index: int) -> int:
    """The word at ``index``."""
    return _load(words, index)


@step
def store(words: Any, index: int, value: int) -> None:
    """Set the word at ``index``; publishes every plain write before it."""
    _store(words, index, value)


@step
def fetch_add(words: Any, index: int, value: int) -> int:
    """Add ``value`` to the word at ``index``; returns what it was before."""
    return _fetch_add(words, index, value)


@step
def exchange_if(words: Any, index: int, expected: int, value: int) -> int:
    """Set the word at ``index`` to ``value`` if it is ``expected``; returns 1 if so, else 0."""
    return _exchange_if(words, index, expected, value)


@step
def copy_in(words: Any, at: int, source: Any, offset: int, count: int) -> None:
    """Copy ``count`` bytes of ``source`` from ``offset`` to byte ``at`` of the shared memory."""
    _copy_in(words, at, source, offset, count)


@step
def copy_out(words: Any, at: int, target: Any, offset: int, count: int) -> None:
    """Copy ``count`` bytes from byte ``at`` of the shared memory to ``offset`` of ``target``."""
    _copy_out(words, at, target, offset, count)


@step
def futex_wait(words: Any, index: int, expected: int, timeout_ns: int) -> int:
    """Sleep while the low half of the word is that of ``expected``; 0 when woken.

    -1 at once if it differs, after ``timeout_ns``, or when a signal came: the caller looks again in each case.
    """
    return _futex_wait(words, index, expected, timeout_ns)


@step
def futex_wake(words: Any, index: int, count: int) -> int:
    """Wake at most ``count`` sleepers on the word; returns how many."""
    return _futex_wake(words, index, count)


@step
def yield_cpu() -> None:
    """Let another process of this core go first (``sched_yield``)."""
    _yield_cpu()


@step
def monotonic_ns() -> int:
    """Nanoseconds of the machine's monotonic clock, the same in all its processes."""
    return _monotonic_ns()
