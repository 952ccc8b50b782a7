"""The kernels of a tile's cells: logits, softmax, and where they are kept for other threads.

In `keep_kernels_by_cell` and `backward_kernels` a tensor's last axis are the K*K taps of one point,
padded to ``2**LEVELS``; its first are the cells of a tile, which has one point of each phase.

Kernels are kept in memory, in the dtype of sums, from where all threads that need them read them:
``(N, K*K, rows * S, cols * S)`` where `POINTS_LAST`, else ``(N, rows, cols, K*K, S, S)``, so that
what one thread needs are vectors. Every point of every cell has one; it is zero where there is no
point or where a tap reads outside of ``de``, and times ``1 - sigmoid(gate)`` if there is a gate.
"""

import triton
import triton.language as tl

from .geometry import load_vector


@triton.jit
def sigmoid(x):
    return 1 / (1 + tl.exp(-x))


@triton.jit
def softmax(x, TAPS: tl.constexpr, LEVELS: tl.constexpr):
    """The softmax over the taps."""
    x = tl.where((tl.arange(0, 2**LEVELS) < TAPS)[None, :, None], x, float('-inf'))
    x = tl.exp(x - tl.max(x, axis=1)[:, None, :])
    return x * (1 / tl.sum(x, axis=1))[:, None, :]


@triton.jit
def is_inside(a, b, H, W, K: tl.constexpr, LEVELS: tl.constexpr):
    """Whether each tap reads inside of ``de``."""
    tap = tl.arange(0, 2**LEVELS)
    u = a[:, None, :] + (tap // K - K // 2)[None, :, None]
    v = b[:, None, :] + (tap % K - K // 2)[None, :, None]
    return (u >= 0) & (u < H) & (v >= 0) & (v < W)


@triton.jit
def taps_at(
    points,
    stride,
    LEVELS: tl.constexpr,
    POINTS_LAST: tl.constexpr,
    IS_VECTOR: tl.constexpr,
    INDEX: tl.constexpr,
):
    """Pointers to all taps, from those to the first one of points, and the taps' numbers.

    Taps are the first axis where `POINTS_LAST`, else the second. `IS_VECTOR`: the points of a group
    are aligned neighbours in memory. (Triton takes such hints where pointers are made, so not from
    a function that is given them.)
    """
    COUNT: tl.constexpr = points.shape[1]
    SIZE: tl.constexpr = points.dtype.element_ty.primitive_bitwidth // 8
    tap = tl.arange(0, 2**LEVELS)
    tap = tap[:, None, None] if POINTS_LAST else tap[None, :, None]
    pointers = tl.expand_dims(points, 0 if POINTS_LAST else 1) + tap.to(INDEX) * stride
    if IS_VECTOR and COUNT > 1:
        pointers = tl.multiple_of(tl.max_contiguous(pointers, (1, 1, COUNT)), (1, 1, COUNT * SIZE))
    elif POINTS_LAST and COUNT > 1:
        pointers = tl.multiple_of(tl.max_contiguous(pointers, (1, 1, 2)), (1, 1, 1))
    elif POINTS_LAST:
        pointers = tl.multiple_of(tl.max_contiguous(pointers, (1, 2, 1)), (1, 1, 1))
    return pointers, tap


@triton.jit
def load_taps(
    points,
    stride,
    TAPS: tl.constexpr,
    LEVELS: tl.constexpr,
    POINTS_LAST: tl.constexpr,
    IS_VECTOR: tl.constexpr,
    INDEX: tl.constexpr,
):
    """All taps, from pointers to the first one of points: [group, tap, point]."""
    at, tap = taps_at(points, stride, LEVELS, POINTS_LAST, IS_VECTOR, INDEX)
    x = tl.load(at, mask=tap < TAPS, other=0.0)
    return tl.permute(x, (1, 0, 2)) if POINTS_LAST else x


@triton.jit
def store_taps(
    points,
    stride,
    x,
    mask,
    TAPS: tl.constexpr,
    LEVELS: tl.constexpr,
    POINTS_LAST: tl.constexpr,
    IS_VECTOR: tl.constexpr,
    INDEX: tl.constexpr,
):
    """The inverse of `load_taps`."""
    at, tap = taps_at(points, stride, LEVELS, POINTS_LAST, IS_VECTOR, INDEX)
    x = tl.permute(x, (1, 0, 2)) if POINTS_LAST else x
    mask = (tap < TAPS) & tl.expand_dims(mask, 0 if POINTS_LAST else 1)
    tl.store(at, x.to(points.dtype.element_ty), mask=mask)


@triton.jit
def kept_at(
    kept,
    n,
    i,
    j,
    rows,
    cols,
    TAPS: tl.constexpr,
    S: tl.constexpr,
    POINTS_LAST: tl.constexpr,
    INDEX: tl.constexpr,
):
    """Pointers to the first tap of the first point of cells, and the strides of taps and rows."""
    kept += n * (TAPS * S * S) * rows * cols
    if POINTS_LAST:
        row_stride = tl.full((), S, INDEX) * cols
        return kept + i * (S * row_stride) + j * S, rows * S * row_stride, row_stride
    tap_stride = tl.full((), S * S, INDEX)
    return kept + (i * cols + j) * (TAPS * S * S), tap_stride, tl.full((), S, INDEX)


@triton.jit
def load_kept(
    at,
    row_stride,
    S: tl.constexpr,
    TAPS: tl.constexpr,
    CELLS: tl.constexpr,
    ACC: tl.constexpr,
    POINTS_LAST: tl.constexpr,
):
    """A tap of all points of a group, from two-axis pointers: [row][column]."""
    WIDEST: tl.constexpr = 128 // ACC.primitive_bitwidth
    found = ()
    if POINTS_LAST:
        PIECE: tl.constexpr = min(CELLS * S & -(CELLS * S), WIDEST)
        for r in tl.static_range(S):
            columns = ()
            for piece in tl.static_range(CELLS * S // PIECE):
                start = at + r * row_stride + piece * PIECE
                columns = columns + load_vector(start, None, PIECE, ACC, POINTS_LAST)
            found = found + (columns,)
    else:
        PIECE: tl.constexpr = min(S * S & -(S * S), WIDEST)
        cells = ()
        for q in tl.static_range(CELLS):
            phases = ()
            for piece in tl.static_range(S * S // PIECE):
                start = at + q * (TAPS * S * S) + piece * PIECE
                phases = phases + load_vector(start, None, PIECE, ACC, POINTS_LAST)
            cells = cells + (phases,)
        for r in tl.static_range(S):
            columns = ()
            for q in tl.static_range(CELLS):
                for p in tl.static_range(S):
                    columns = columns + (cells[q][r * S + p],)
            found = found + (columns,)
    return found


@triton.jit
def keep_kernels_by_cell(
    kept,
    logits,
    logits_strides,
    logits_de,
    logits_de_strides,
    gate,
    gate_strides,
    n,
    i,
    j,
    rows,
    cols,
    h,
    w,
    H,
    W,
    K: tl.constexpr,
    S: tl.constexpr,
    SOFTMAX: tl.constexpr,
    ACC: tl.constexpr,
    INDEX: tl.constexpr,
    LEVELS: tl.constexpr,
):
    """Compute and keep the kernels of cells ``(i, j)``, of which many threads share each.

    For not `POINTS_LAST`: neighbouring threads have neighbouring taps.
    """
    TAPS: tl.constexpr = K * K
    VECTOR: tl.constexpr = min(S * S & -(S * S), 128 // ACC.primitive_bitwidth)
    i, j = i[:, None], j[:, None]
    at, tap_stride, _ = kept_at(kept, n, i, j, rows, cols, TAPS, S, False, INDEX)
    a, b = tl.minimum(i, H - 1), tl.minimum(j, W - 1)
    inside = is_inside(a, b, H, W, K, LEVELS)
    logits += n * logits_strides[0]
    if logits_de is not None:
        logits_de += n * logits_de_strides[0] + a * logits_de_strides[2] + b * logits_de_strides[3]
        low = load_taps(logits_de, logits_de_strides[1], TAPS, LEVELS, False, False, INDEX).to(ACC)
    if gate is not None:
        gate += n * gate_strides[0] + a * gate_strides[2] + b * gate_strides[3]
        closed = 1 - sigmoid(tl.load(gate).to(ACC))
    for first in range(0, S * S, VECTOR):
        phase = first + tl.arange(0, VECTOR)[None, :]
        row, col = i * S + phase // S, j * S + phase % S
        is_point = (row < h) & (col < w)
        row, col = tl.minimum(row, h - 1), tl.minimum(col, w - 1)
        points = logits + row * logits_strides[2] + col * logits_strides[3]
        x = load_taps(points, logits_strides[1], TAPS, LEVELS, False, False, INDEX).to(ACC)
        if logits_de is not None:
            x += low
        if SOFTMAX:
            x = softmax(x, TAPS, LEVELS)
        if gate is not None:
            x *= closed[:, None, :]
        x = tl.where(inside & is_point[:, None, :], x, 0.0)
        store_taps(at + phase, tap_stride, x, i >= 0, TAPS, LEVELS, False, True, INDEX)


@triton.jit
def load_tap_row(
    points,
    stride,
    low_points,
    low_stride,
    u,
    K: tl.constexpr,
    ACC: tl.constexpr,
):
    """The K logits of a row of the window, from pointers to the first of all, as a tuple."""
    x = ()
    for v in tl.static_range(K):
        value = tl.load(points + (u * K + v) * stride).to(ACC)
        if low_points is not None:
            value += tl.load(low_points + (u * K + v) * low_stride).to(ACC)
        x = x + (value,)
    return x


@triton.jit
def keep_kernels_by_point(
    kept,
    logits,
    logits_strides,
    logits_de,
    logits_de_strides,
    gate,
    gate_strides,
    n,
    row,
    col,
    rows,
    cols,
    h,
    w,
    H,
    W,
    K: tl.constexpr,
    S: tl.constexpr,
    SOFTMAX: tl.constexpr,
    ACC: tl.constexpr,
    INDEX: tl.constexpr,
):
    """Compute and keep the kernels of output points, of which a thread has one.

    It goes through the rows of the window twice, so that it never has all taps in registers. For
    `POINTS_LAST`: neighbouring threads have neighbouring points.
    """
    a, b = tl.minimum(row // S, H - 1), tl.minimum(col // S, W - 1)
    is_point = (row < h) & (col < w)
    at, tap_stride, row_stride = kept_at(kept, n, row // S, 0, rows, cols, K * K, S, True, INDEX)
    at += row % S * row_stride + col
    row, col = tl.minimum(row, h - 1), tl.minimum(col, w - 1)
    logits += n * logits_strides[0] + row * logits_strides[2] + col * logits_strides[3]
    stride = tl.full((), 1, INDEX) * logits_strides[1]
    low_stride = stride
    if logits_de is not None:
        logits_de += n * logits_de_strides[0] + a * logits_de_strides[2] + b * logits_de_strides[3]
        low_stride = tl.full((), 1, INDEX) * logits_de_strides[1]
    factor = tl.full(row.shape, 1, ACC)
    top = tl.full(row.shape, 0, ACC)
    if SOFTMAX:
        top = tl.full(row.shape, float('-inf'), ACC)
        total = tl.full(row.shape, 0, ACC)
        for u in range(K):
            x = load_tap_row(logits, stride, logits_de, low_stride, u, K, ACC)
            highest = top
            for v in tl.static_range(K):
                highest = tl.maximum(highest, x[v])
            shift = tl.where(highest == float('-inf'), 0.0, highest)
            total *= tl.exp(top - shift)
            for v in tl.static_range(K):
                total += tl.exp(x[v] - shift)
            top = highest
        factor = 1 / total
    if gate is not None:
        gate += n * gate_strides[0] + a * gate_strides[2] + b * gate_strides[3]
        factor *= 1 - sigmoid(tl.load(gate).to(ACC))
    for u in range(K):
        y = load_tap_row(logits, stride, logits_de, low_stride, u, K, ACC)
        inside_row = is_point & (a + (u - K // 2) >= 0) & (a + (u - K // 2) < H)
        for v in tl.static_range(K):
            inside = inside_row & (b + (v - K // 2) >= 0) & (b + (v - K // 2) < W)
            power = tl.exp(y[v] - top) if SOFTMAX else y[v]
            kernel = tl.where(inside, power * factor, 0.0)
            tl.store(at + (u * K + v) * tap_stride, kernel)
