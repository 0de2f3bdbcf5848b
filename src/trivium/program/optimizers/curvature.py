"""Vector kernels of the quasi-Newton optimizers: dot products by block, and the few vectors that are written.

Vectors of the ring, by row: ``s`` at 0 … m, ``y`` at m + 1 … 2m + 1, then two each of x (the last accepted point), g
(its smooth gradient) and d (the direction). One more of each than is live, so that nothing live is ever written. The
last row is ``root``, √D of a diagonal preconditioner: with it the history lives in the variables √D·w, that is s is
kept as √D·s, y as y/√D, and dot products take p/√D; x, g and d are as they are.

p is the pseudo-gradient: the subgradient of least norm, g itself where there is no l1 (Andrew and Gao, ICML 2007).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trivium.program.optimizers.base import Flat
from trivium.program.optimizers.compiled import blockwise, elementwise, segments
from trivium.program.params import BLOCK

__all__ = ["COLUMNS", "DAMPING", "PER_PAIR", "condition", "direct", "measure", "probe", "remember", "walk"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Columns of the partial sums, before the five of each live pair: s'y_j, y's_j, y'y_j, p's_j, p'y_j.
COLUMNS = ("pp", "above", "ww", "w1", "gs", "qs", "ss", "sy", "yy", "sp", "yp")
PER_PAIR = 5
DAMPING = 10.0  # times the mean of D, added to D: bag of words at l2 = 1e-3 … 1e-7 is best near it, and flat around


@elementwise
def _pseudo(w: float, g: float, l1: float) -> float:
    if w > 0:
        return g + l1
    if w < 0:
        return g - l1
    if g + l1 < 0:
        return g + l1
    if g - l1 > 0:
        return g - l1
    return g - g  # zero inside the kink; NaN if g is


@elementwise
def _gradients(
    a: Flat, g: Flat, scale: float, l2: float, l1: float, lo: int, penalised: Ints, smooth: Flat, pseudo: Flat
) -> None:
    """Of elements ``lo`` on: the smooth gradient g·scale + l2·a, and the pseudo-gradient."""
    zero = l2 - l2
    cut = segments(lo, lo + len(smooth), penalised)
    for k in range(len(cut)):
        start, stop, under = cut[k, 0], cut[k, 1], cut[k, 2]
        w, d = a[start:stop], g[start:stop]
        out, p = smooth[start - lo : stop - lo], pseudo[start - lo : stop - lo]
        decay = l2 if under else zero
        for i in range(out.size):
            out[i] = d[i] * scale + w[i] * decay
        if under and l1 > 0:
            for i in range(out.size):
                p[i] = _pseudo(w[i], out[i], l1)
        else:
            p[:] = out


@blockwise
def _slopes(p: Flat, g: Flat, s: Flat, q: Flat, tol: float, row: Floats) -> None:
    above = gs = qs = 0.0
    for i in range(p.size):
        si = np.float64(s[i])
        above += 0.0 if abs(np.float64(p[i])) <= tol else 1.0
        gs += g[i] * si
        qs += q[i] * si
    row[1], row[4], row[5] = above, gs, qs


@blockwise
def _sums(p: Flat, s: Flat, y: Flat, row: Floats) -> None:
    pp = ss = sy = yy = sp = yp = 0.0
    for i in range(p.size):
        pi, si, yi = np.float64(p[i]), np.float64(s[i]), np.float64(y[i])
        pp += pi * pi
        ss += si * si
        sy += si * yi
        yy += yi * yi
        sp += si * pi
        yp += yi * pi
    row[0], row[6], row[7], row[8], row[9], row[10] = pp, ss, sy, yy, sp, yp


@blockwise
def _norms(w: Flat) -> tuple[float, float]:
    two = one = 0.0
    for i in range(w.size):
        wi = np.float64(w[i])
        two += wi * wi
        one += abs(wi)
    return two, one


@blockwise
def _pair(p: Flat, s: Flat, y: Flat, old_s: Flat, old_y: Flat, row: Floats) -> None:
    a = b = c = d = e = 0.0
    for i in range(p.size):
        pi, si, yi = np.float64(p[i]), np.float64(s[i]), np.float64(y[i])
        osi, oyi = np.float64(old_s[i]), np.float64(old_y[i])
        a += si * oyi
        b += yi * osi
        c += yi * oyi
        d += pi * osi
        e += pi * oyi
    row[0], row[1], row[2], row[3], row[4] = a, b, c, d, e


@elementwise
def measure(
    a: Flat, g: Flat, ring: Flat, live: Ints, rows: Ints, penalised: Ints, c: Flat, tol: float, out: Floats
) -> None:
    """Partial sums of each block of 4,096 elements (``COLUMNS``, then five for each of ``live``).

    ``rows``: m + 1, and rows of x, g and root, where x or root < 0 if there is none yet. ``c``: 1/weight, l2, l1.
    """
    pairs, at_x, at_g, at_root = rows[0], rows[1], rows[2], rows[3]
    scale, l2, l1 = c[0], c[1], c[2]
    scratch = np.zeros((6, BLOCK), a.dtype)
    smooth, p, s, y, q, unused = scratch[0], scratch[1], scratch[2], scratch[3], scratch[4], scratch[5]
    out[:] = 0.0
    for b in range(len(out)):
        lo, hi = b * BLOCK, min(a.size, (b + 1) * BLOCK)
        n = hi - lo
        _gradients(a, g, scale, l2, l1, lo, penalised, smooth[:n], p[:n])
        cut = segments(lo, hi, penalised)
        for k in range(len(cut)):
            if cut[k, 2]:
                two, one = _norms(a[cut[k, 0] : cut[k, 1]])
                out[b, 2] += two
                out[b, 3] += one
        if at_x >= 0:
            x, old = ring[at_x], ring[at_g]
            for i in range(n):
                s[i] = a[lo + i] - x[lo + i]
                y[i] = smooth[i] - old[lo + i]
            _gradients(x, old, c.dtype.type(1), l2 - l2, l1, lo, penalised, unused[:n], q[:n])
        _slopes(p[:n], smooth[:n], s[:n], q[:n], tol, out[b])
        if at_root >= 0:
            root = ring[at_root, lo:hi]
            for i in range(n):
                s[i] *= root[i]
                y[i] /= root[i]
                p[i] /= root[i]
        _sums(p[:n], s[:n], y[:n], out[b])
        for k in range(len(live)):
            old_s, old_y = ring[live[k], lo:hi], ring[pairs + live[k], lo:hi]
            _pair(p[:n], s[:n], y[:n], old_s, old_y, out[b, 11 + 5 * k :])


@elementwise
def remember(a: Flat, g: Flat, ring: Flat, old: Ints, new: Ints, penalised: Ints, c: Flat) -> None:
    """Write the accepted point: x, g, and, where ``new[0]`` is 0 or more, s and y.

    ``old``: rows of x, g and root (< 0: none); ``new``: rows to write s, y, x and g to. ``c``: 1/weight, l2.
    """
    scale, l2 = c[0], c[1]
    zero = l2 - l2
    x, smooth = ring[new[2]], ring[new[3]]
    cut = segments(0, a.size, penalised)
    for k in range(len(cut)):
        lo, hi, under = cut[k, 0], cut[k, 1], cut[k, 2]
        w, d, o = a[lo:hi], g[lo:hi], smooth[lo:hi]
        decay = l2 if under else zero
        for i in range(o.size):
            o[i] = d[i] * scale + w[i] * decay
    if new[0] >= 0:
        s, y, was, before = ring[new[0]], ring[new[1]], ring[old[0]], ring[old[1]]
        for i in range(s.size):
            s[i] = a[i] - was[i]
        for i in range(s.size):
            y[i] = smooth[i] - before[i]
        if old[2] >= 0:
            root = ring[old[2]]
            for i in range(s.size):
                s[i] *= root[i]
                y[i] /= root[i]
    x[:] = a


@elementwise
def probe(a: Flat, g: Flat, ring: Flat, rows: Ints, penalised: Ints, c: Flat, out: Floats) -> None:
    """Of each block's penalised elements: Σ of the change of g since x, how many fell, how many there are.

    ``rows``: x, g. ``c``: 1/weight, l2. One step over all columns alike gives the row sums of the Hessian.
    """
    old, zero = ring[rows[1]], c[0] - c[0]
    smooth, unused = np.empty(BLOCK, a.dtype), np.empty(BLOCK, a.dtype)
    out[:] = 0.0
    for b in range(len(out)):
        lo, hi = b * BLOCK, min(a.size, (b + 1) * BLOCK)
        _gradients(a, g, c[0], c[1], zero, lo, penalised, smooth[: hi - lo], unused[: hi - lo])
        cut = segments(lo, hi, penalised)
        for k in range(len(cut)):
            if cut[k, 2]:
                for i in range(cut[k, 0], cut[k, 1]):
                    change = np.float64(smooth[i - lo]) - np.float64(old[i])
                    out[b, 0] += change
                    out[b, 1] += 0.0 if change >= 0 else 1.0
                out[b, 2] += cut[k, 1] - cut[k, 0]


@elementwise
def condition(a: Flat, g: Flat, ring: Flat, rows: Ints, length: float, mean: float, penalised: Ints, c: Flat) -> None:
    """Write root = √(D + DAMPING·mean D), D = the change of g over the probe's ``length``, none below 0.

    ``rows``: x, g, root. ``mean`` is that of D. ``c``: 1/weight, l2.
    """
    old, root, zero = ring[rows[1]], ring[rows[2]], c[0] - c[0]
    smooth, unused = np.empty(BLOCK, a.dtype), np.empty(BLOCK, a.dtype)
    for lo in range(0, a.size, BLOCK):
        n = min(a.size, lo + BLOCK) - lo
        _gradients(a, g, c[0], c[1], zero, lo, penalised, smooth[:n], unused[:n])
        for i in range(n):
            row_sum = (np.float64(smooth[i]) - np.float64(old[lo + i])) / length
            root[lo + i] = np.sqrt(max(row_sum, 0.0) + DAMPING * mean)


@elementwise
def _add(total: Floats, weight: float, row: Flat) -> None:
    for i in range(total.size):
        total[i] += weight * row[i]


@elementwise
def direct(ring: Flat, rows: Ints, live: Ints, weights: Floats, penalised: Ints, c: Flat) -> None:
    """Write the direction: Σ weights × (s of live, y of live, p), kept in p's orthant where there is l1.

    ``rows``: m + 1, x, g, d to write, and root (< 0: none). ``c``: l1.
    """
    pairs, x, g, d = rows[0], ring[rows[1]], ring[rows[2]], ring[rows[3]]
    one, l1 = c.dtype.type(1), c[0]
    count = len(live)
    sums = np.empty(BLOCK)
    p, unused = np.empty(BLOCK, ring.dtype), np.empty(BLOCK, ring.dtype)
    for lo in range(0, d.size, BLOCK):
        hi = min(d.size, lo + BLOCK)
        n = hi - lo
        _gradients(x, g, one, l1 - l1, l1, lo, penalised, unused[:n], p[:n])
        if rows[4] >= 0:
            root = ring[rows[4], lo:hi]
            for i in range(n):
                p[i] /= root[i]
        total = sums[:n]
        total[:] = 0.0
        for k in range(count):
            _add(total, weights[k], ring[live[k], lo:hi])
            _add(total, weights[count + k], ring[pairs + live[k], lo:hi])
        _add(total, weights[2 * count], p[:n])
        if l1 > 0:
            cut = segments(lo, hi, penalised)
            for k in range(len(cut)):
                if cut[k, 2]:
                    for i in range(cut[k, 0] - lo, cut[k, 1] - lo):
                        if total[i] * p[i] >= 0:
                            total[i] = 0.0
        if rows[4] >= 0:
            root = ring[rows[4], lo:hi]
            for i in range(n):
                total[i] /= root[i]
        d[lo:hi] = total


@elementwise
def walk(ring: Flat, rows: Ints, t: float, penalised: Ints, c: Flat, out: Flat) -> None:
    """``out`` = x + t·d, with coordinates that would leave their orthant set to zero where there is l1.

    ``rows``: x, g, d. ``c``: l1.
    """
    x, g, d = ring[rows[0]], ring[rows[1]], ring[rows[2]]
    for i in range(out.size):
        out[i] = x[i] + t * d[i]
    l1 = c[0]
    if l1 <= 0:
        return
    for k in range(len(penalised)):
        for i in range(penalised[k, 0], penalised[k, 1]):
            side = x[i] if x[i] != 0 else -_pseudo(x[i], g[i], l1)
            if out[i] * side <= 0:
                out[i] = 0
