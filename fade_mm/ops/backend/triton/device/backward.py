"""The backward kernels. They run in this order, and each needs what the one before has kept:

1. `backward_products`: the gradient of every kernel, which is a sum over the channels, and that of
   ``en``.
2. `backward_kernels`: back through gate and softmax, point by point. In place of the products it
   leaves the kernels themselves.
3. `backward_de`: the gradient of ``de``, a sum over all output points that read it.

What must hold:

- All gather: each number is written once, by one thread, and summed in an order that the tiles
  alone decide. So there are no atomics, and results are the same bit for bit from run to run.
- Products of taps that read outside of ``de`` are those of what was read instead;
  `backward_kernels` leaves them out.
"""

import triton
import triton.language as tl

from .geometry import (
    ceil_div,
    clamp,
    groups_of,
    load_vector,
    read,
    stack,
    tile_of,
    vectors_at,
    write,
)
from .kernels import is_inside, kept_at, load_taps, sigmoid, softmax, store_taps


@triton.jit
def store_sums(pointers, values, mask, COUNT: tl.constexpr, POINTS_LAST: tl.constexpr):
    """Write sums over all lanes of channels: `COUNT` neighbours from each of the pointers on."""
    AXIS: tl.constexpr = 0 if POINTS_LAST else 1
    total = tl.expand_dims(tl.sum(stack(values, COUNT), axis=AXIS), AXIS)
    tl.store(vectors_at(pointers, COUNT), total, mask=tl.expand_dims(mask, 2))


@triton.jit(do_not_specialize=['h', 'w', 'H', 'W'])
def backward_products(
    grad,
    grad_strides,
    de,
    de_strides,
    gate,
    gate_strides,
    en,
    en_strides,
    grad_en,
    grad_en_strides,
    products,
    gate_products,
    h,
    w,
    H,
    W,
    C: tl.constexpr,
    K: tl.constexpr,
    S: tl.constexpr,
    POINTS_LAST: tl.constexpr,
    ACC: tl.constexpr,
    INDEX: tl.constexpr,
    VECTOR: tl.constexpr,
    TILE_H: tl.constexpr,
    TILE_W: tl.constexpr,
    LANES: tl.constexpr,
    CELLS: tl.constexpr,
    PARTS: tl.constexpr,
    ROWS: tl.constexpr,
    TAP_ROWS: tl.constexpr,
    TAP_LANES: tl.constexpr,
):
    """For a tile of groups, the products of output's gradient and feature, summed over channels.

    A thread has `ROWS` of its group's S rows of output points, and `TAP_ROWS` of the window's K
    rows of ``de``; `TAP_LANES` threads share a group. The first of these sees to ``en`` as well.
    """
    AXIS: tl.constexpr = 0 if POINTS_LAST else 1
    GROUPS: tl.constexpr = TILE_H * TILE_W
    POINTS: tl.constexpr = CELLS * S
    rows, cols = ceil_div(h, S), ceil_div(w, S)
    program = tl.program_id(0)
    first_row = program % (S // ROWS) * ROWS
    n, i, j = tile_of(program // (S // ROWS), rows, ceil_div(cols, CELLS), TILE_H, TILE_W)
    # Groups of `TAP_LANES` tiles, which are the same one.
    i, j, is_there = groups_of(i, j, rows, cols, GROUPS, TILE_W, CELLS, INDEX)
    lane = tl.arange(0, TAP_LANES)
    i = tl.reshape(lane[:, None] * 0 + i[None, :], (TAP_LANES * GROUPS,))
    j = tl.reshape(lane[:, None] * 0 + j[None, :], (TAP_LANES * GROUPS,))
    is_there = tl.reshape((lane[:, None] >= 0) & is_there[None, :], (TAP_LANES * GROUPS,))
    first_tap = tl.arange(0, TAP_LANES * GROUPS) // GROUPS * TAP_ROWS
    a, b = tl.minimum(i, H - 1), tl.minimum(j, W - 1)
    grad += n * grad_strides[0]
    de += n * de_strides[0]
    if gate is not None:
        gate += n * gate_strides[0] + a * gate_strides[2]
        en += n * en_strides[0]
        if grad_en is not None:
            grad_en += n * grad_en_strides[0]
            opened = ()
            for q in tl.static_range(CELLS):
                at = gate + tl.minimum(j + q, W - 1) * gate_strides[3]
                opened = opened + (tl.expand_dims(sigmoid(tl.load(at).to(ACC)), AXIS),)
    i, j, a, b = (
        tl.expand_dims(i, AXIS),
        tl.expand_dims(j, AXIS),
        tl.expand_dims(a, AXIS),
        tl.expand_dims(b, AXIS),
    )
    is_there = tl.expand_dims(is_there, AXIS)
    first_tap = tl.expand_dims(first_tap, AXIS)
    is_first = is_there & (first_tap == 0)
    lane = tl.expand_dims(tl.arange(0, LANES).to(INDEX), 1 - AXIS)
    if not POINTS_LAST:
        lane *= PARTS
    zero = tl.zeros_like(lane + i).to(ACC)
    sums = ()
    for _ in tl.static_range(TAP_ROWS * K * ROWS * POINTS):
        sums = sums + (zero,)
    gate_sums = ()
    for _ in tl.static_range(ROWS * POINTS):
        gate_sums = gate_sums + (zero,)

    for start in range(0, C, LANES * PARTS):
        c = start + lane
        grads = ()
        for r in tl.static_range(ROWS):
            row = tl.minimum(i * S + first_row + r, h - 1)
            x = read(
                grad, grad_strides, c, row, j * S, w,
                C, 0, POINTS, VECTOR, LANES, PARTS, ACC, POINTS_LAST,
            )  # fmt: skip
            of_row = ()
            for part in tl.static_range(PARTS):
                of_part = ()
                for k in tl.static_range(POINTS):
                    if C % (LANES * PARTS) == 0:
                        of_part = of_part + (x[part][k],)
                    elif POINTS_LAST:
                        of_part = of_part + (tl.where(c + part * LANES < C, x[part][k], 0.0),)
                    else:
                        of_part = of_part + (tl.where(c < C, x[part][k], 0.0),)
                of_row = of_row + (of_part,)
            grads = grads + (of_row,)
        if gate is not None:
            new_gate_sums = ()
            for r in tl.static_range(ROWS):
                row = i * S + first_row + r
                skip = read(
                    en, en_strides, c, tl.minimum(row, h - 1), j * S, w,
                    C, 0, POINTS, VECTOR, LANES, PARTS, ACC, POINTS_LAST,
                )  # fmt: skip
                for k in tl.static_range(POINTS):
                    total = gate_sums[r * POINTS + k]
                    for part in tl.static_range(PARTS):
                        total = tl.fma(skip[part][k], grads[r][part][k], total)
                    new_gate_sums = new_gate_sums + (total,)
                if grad_en is not None:
                    values = ()
                    for part in tl.static_range(PARTS):
                        of_part = ()
                        for k in tl.static_range(POINTS):
                            of_part = of_part + (grads[r][part][k] * opened[k // S],)
                        values = values + (of_part,)
                    write(
                        grad_en, grad_en_strides, c, row, j * S, w, values, is_first & (row < h),
                        C, POINTS, VECTOR, LANES, PARTS, POINTS_LAST,
                    )  # fmt: skip
            gate_sums = new_gate_sums
        new_sums = ()
        for t in tl.static_range(TAP_ROWS):
            feature = read(
                de, de_strides, c, clamp(a + first_tap + (t - K // 2), H), b, W,
                C, K // 2, CELLS, VECTOR, LANES, PARTS, ACC, POINTS_LAST,
            )  # fmt: skip
            for v in tl.static_range(K):
                for r in tl.static_range(ROWS):
                    for k in tl.static_range(POINTS):
                        total = sums[((t * K + v) * ROWS + r) * POINTS + k]
                        for part in tl.static_range(PARTS):
                            total = tl.fma(feature[part][k // S + v], grads[r][part][k], total)
                        new_sums = new_sums + (total,)
        sums = new_sums

    # Neighbours in memory: the points of a group's row, or of a cell's.
    RUN: tl.constexpr = POINTS if POINTS_LAST else S
    PIECE: tl.constexpr = min(RUN & -RUN, 128 // ACC.primitive_bitwidth)
    at, tap_stride, row_stride = kept_at(
        products, n, i, j, rows, cols, K * K, S, POINTS_LAST, INDEX
    )
    at += first_tap * (K * tap_stride) + first_row * row_stride
    for t in tl.static_range(TAP_ROWS):
        for v in tl.static_range(K):
            for r in tl.static_range(ROWS):
                for piece in tl.static_range(POINTS // PIECE):
                    values = ()
                    for k in tl.static_range(PIECE):
                        values = values + (
                            sums[((t * K + v) * ROWS + r) * POINTS + piece * PIECE + k],
                        )
                    to = at + ((t * K + v) * tap_stride + r * row_stride)
                    to += kept_column(piece * PIECE, K * K, S, POINTS_LAST)
                    mask = is_there & (first_tap + t < K)
                    store_sums(to, values, mask, PIECE, POINTS_LAST)
    if gate is not None:
        at, _, row_stride = kept_at(gate_products, n, i, j, rows, cols, 1, S, POINTS_LAST, INDEX)
        for r in tl.static_range(ROWS):
            for piece in tl.static_range(POINTS // PIECE):
                values = ()
                for k in tl.static_range(PIECE):
                    values = values + (gate_sums[r * POINTS + piece * PIECE + k],)
                to = at + (first_row + r) * row_stride
                to += kept_column(piece * PIECE, 1, S, POINTS_LAST)
                store_sums(to, values, is_first, PIECE, POINTS_LAST)


@triton.jit
def kept_column(
    column: tl.constexpr, TAPS: tl.constexpr, S: tl.constexpr, POINTS_LAST: tl.constexpr
):
    """How far a point in that column of a group's row lies from the first."""
    return column if POINTS_LAST else column // S * (TAPS * S * S) + column % S


@triton.jit
def to_points(x, VECTOR: tl.constexpr):
    """Values of a group's cells, the last axis, for its `VECTOR` points."""
    COUNT: tl.constexpr = VECTOR // x.shape[-1]
    cells = tl.broadcast_to(tl.expand_dims(x, -1), x.shape + (COUNT,))
    return tl.reshape(cells, x.shape[:-1] + (VECTOR,))


@triton.jit
def to_cells(x, CELLS: tl.constexpr):
    """Sums over the points of each of a group's cells; the points are the last axis."""
    COUNT: tl.constexpr = x.shape[-1] // CELLS
    return tl.sum(tl.reshape(x, x.shape[:-1] + (CELLS, COUNT)), axis=-1)


@triton.jit(do_not_specialize=['h', 'w', 'H', 'W'])
def backward_kernels(
    products,
    gate_products,
    logits,
    logits_strides,
    logits_de,
    logits_de_strides,
    gate,
    gate_strides,
    grad_logits,
    grad_logits_strides,
    grad_logits_de,
    grad_logits_de_strides,
    grad_gate,
    grad_gate_strides,
    h,
    w,
    H,
    W,
    K: tl.constexpr,
    S: tl.constexpr,
    SOFTMAX: tl.constexpr,
    POINTS_LAST: tl.constexpr,
    ACC: tl.constexpr,
    INDEX: tl.constexpr,
    LEVELS: tl.constexpr,
    VECTOR: tl.constexpr,
    TILE_H: tl.constexpr,
    TILE_W: tl.constexpr,
    CELLS: tl.constexpr,
):
    """The gradients of logits and gate for a tile of cells, as far as they are given.

    Those of ``logits_de`` and ``gate`` are sums over a cell. Where the products were, the kernels
    are kept. No products are given where none of these gradients is needed.
    """
    TAPS: tl.constexpr = K * K
    GROUPS: tl.constexpr = TILE_H * TILE_W
    POINTS: tl.constexpr = CELLS * S  # of a row of a group
    rows, cols = ceil_div(h, S), ceil_div(w, S)
    n, i, j = tile_of(tl.program_id(0), rows, ceil_div(cols, CELLS), TILE_H, TILE_W)
    i, j, is_there = groups_of(i, j, rows, cols, GROUPS, TILE_W, CELLS, INDEX)
    i, j, is_there = i[:, None], j[:, None], is_there[:, None]
    at, tap_stride, row_stride = kept_at(products, n, i, j, rows, cols, TAPS, S, POINTS_LAST, INDEX)
    cells = j + tl.arange(0, CELLS)[None, :]
    a, b = tl.minimum(i, H - 1), tl.minimum(cells, W - 1)
    inside = to_points(is_inside(a, b, H, W, K, LEVELS), VECTOR)
    cell_logits = tl.zeros((GROUPS, 2**LEVELS, CELLS), ACC)
    cell_gate = tl.zeros((GROUPS, CELLS), ACC)
    logits += n * logits_strides[0]
    if logits_de is not None:
        logits_de += n * logits_de_strides[0] + a * logits_de_strides[2] + b * logits_de_strides[3]
        low = load_taps(logits_de, logits_de_strides[1], TAPS, LEVELS, POINTS_LAST, False, INDEX)
        low = to_points(low.to(ACC), VECTOR)
    if gate is not None:
        gate += n * gate_strides[0] + a * gate_strides[2] + b * gate_strides[3]
        opened = sigmoid(tl.load(gate).to(ACC))
        closed = to_points(1 - opened, VECTOR)
        gate_at, _, gate_row_stride = kept_at(
            gate_products, n, i, j, rows, cols, 1, S, POINTS_LAST, INDEX
        )

    for first in range(0, S * POINTS, VECTOR):
        point = first + tl.arange(0, VECTOR)[None, :]
        r, k = point // POINTS, point % POINTS
        row, col = i * S + r, j * S + k
        is_point = is_there & (row < h) & (col < w)
        row, col = tl.minimum(row, h - 1), tl.minimum(col, w - 1)
        points = logits + row * logits_strides[2] + col * logits_strides[3]
        kernels = load_taps(
            points, logits_strides[1], TAPS, LEVELS, POINTS_LAST, POINTS_LAST, INDEX
        ).to(ACC)
        if logits_de is not None:
            kernels += low
        if SOFTMAX:
            kernels = softmax(kernels, TAPS, LEVELS)
        points = at + r * row_stride + k
        x = load_taps(points, tap_stride, TAPS, LEVELS, POINTS_LAST, True, INDEX)
        x = tl.where(inside & is_point[:, None, :], x, 0.0)
        inner = tl.sum(tl.where(is_point[:, None, :], kernels * x, 0.0), axis=1)
        if gate is not None:
            product = tl.load(gate_at + r * gate_row_stride + k)
            cell_gate += to_cells(tl.where(is_point, product - inner, 0.0), CELLS)
        if SOFTMAX:
            x = kernels * (x - inner[:, None, :])
        if gate is not None:
            x *= closed[:, None, :]
            kernels *= closed[:, None, :]
        if logits_de is not None:
            cell_logits += to_cells(tl.where(is_point[:, None, :], x, 0.0), CELLS)
        if grad_logits is not None:
            to = grad_logits + n * grad_logits_strides[0]
            to += row * grad_logits_strides[2] + col * grad_logits_strides[3]
            mask = is_point
            if POINTS_LAST:  # one for a vector, whose points are there or are not
                mask = is_there & (i * S + first // POINTS < h) & (j * S + first % POINTS < w)
            stride = grad_logits_strides[1]
            store_taps(to, stride, x, mask, TAPS, LEVELS, POINTS_LAST, POINTS_LAST, INDEX)
        kernels = tl.where(inside & is_point[:, None, :], kernels, 0.0)
        tl.debug_barrier()  # another thread may still have to load what is written here
        store_taps(points, tap_stride, kernels, is_there, TAPS, LEVELS, POINTS_LAST, True, INDEX)

    is_there = is_there & (cells < cols)
    if grad_gate is not None:
        to = grad_gate + n * grad_gate_strides[0]
        to += i * grad_gate_strides[2] + cells * grad_gate_strides[3]
        tl.store(to, cell_gate * opened * (1 - opened), mask=is_there)
    if grad_logits_de is not None:
        to = grad_logits_de + n * grad_logits_de_strides[0]
        to += i * grad_logits_de_strides[2] + cells * grad_logits_de_strides[3]
        stride = grad_logits_de_strides[1]
        store_taps(to, stride, cell_logits, is_there, TAPS, LEVELS, POINTS_LAST, False, INDEX)


@triton.jit
def load_kept_tap(
    at,
    is_row,
    b,
    W,
    SHIFT: tl.constexpr,
    S: tl.constexpr,
    TAPS: tl.constexpr,
    CELLS: tl.constexpr,
    ACC: tl.constexpr,
    POINTS_LAST: tl.constexpr,
):
    """A tap of a row of points, in the cells `SHIFT` columns right of a group's: [cell][point].

    Zero where there is no such cell. Two cells are one vector where it is aligned.
    """
    WIDEST: tl.constexpr = 128 // ACC.primitive_bitwidth
    CELL: tl.constexpr = S if POINTS_LAST else TAPS * S * S
    PIECE: tl.constexpr = min(S & -S, WIDEST)
    IS_EVEN: tl.constexpr = POINTS_LAST and CELLS > 1 and SHIFT % 2 == 0
    PAIR: tl.constexpr = 2 if IS_EVEN and S == PIECE and 2 * S <= WIDEST else 1
    found = ()
    for pair in tl.static_range(CELLS // PAIR):
        col = b + (pair * PAIR + SHIFT)
        mask = is_row & (col >= 0) & (col < W)
        points = ()
        for piece in tl.static_range(S // PIECE):
            start = at + ((pair * PAIR + SHIFT) * CELL + piece * PIECE)
            points = points + load_vector(start, mask, PAIR * PIECE, ACC, POINTS_LAST)
        for cell in tl.static_range(PAIR):
            of_cell = ()
            for p in tl.static_range(S):
                of_cell = of_cell + (points[cell * S + p],)
            found = found + (of_cell,)
    return found


@triton.jit(do_not_specialize=['h', 'w', 'H', 'W'])
def backward_de(
    grad,
    grad_strides,
    kept,
    grad_de,
    grad_de_strides,
    h,
    w,
    H,
    W,
    C: tl.constexpr,
    K: tl.constexpr,
    S: tl.constexpr,
    POINTS_LAST: tl.constexpr,
    ACC: tl.constexpr,
    INDEX: tl.constexpr,
    VECTOR: tl.constexpr,
    WIDER: tl.constexpr,
    TILE_H: tl.constexpr,
    TILE_W: tl.constexpr,
    LANES: tl.constexpr,
    CELLS: tl.constexpr,
    PARTS: tl.constexpr,
):
    """The gradient of ``de`` at a tile of groups of its points, for some channels.

    For each row of output points that reads a group, the points around it are read once, and each
    is added to those of the group that it read. Where rounding down left points over, their row is
    one more phase of the last row of cells, and `WIDER` says that there is such a column.
    """
    AXIS: tl.constexpr = 0 if POINTS_LAST else 1
    GROUPS: tl.constexpr = TILE_H * TILE_W
    TAPS: tl.constexpr = K * K
    CELL: tl.constexpr = S if POINTS_LAST else TAPS * S * S  # from one cell to the next
    rows, cols = ceil_div(h, S), ceil_div(w, S)
    splits = ceil_div(C, LANES * PARTS)
    program = tl.program_id(0)
    n, a, b = tile_of(program // splits, H, ceil_div(W, CELLS), TILE_H, TILE_W)
    a, b, is_there = groups_of(a, b, H, W, GROUPS, TILE_W, CELLS, INDEX)
    a, b = tl.expand_dims(a, AXIS), tl.expand_dims(b, AXIS)
    is_there = tl.expand_dims(is_there, AXIS)
    lane = tl.expand_dims(tl.arange(0, LANES).to(INDEX), 1 - AXIS)
    if not POINTS_LAST:
        lane *= PARTS
    c = program % splits * (LANES * PARTS) + lane
    grad += n * grad_strides[0]
    zero = tl.zeros_like(c + a).to(ACC)
    sums = ()
    for _ in tl.static_range(PARTS * CELLS):
        sums = sums + (zero,)

    phases = S + tl.maximum(h - H * S, 0)
    for step in range(K * phases):
        u = step // phases
        low_row = a + (K // 2 - u)
        phase = low_row * 0 + step % phases
        row = low_row * S + phase
        is_row = (c >= 0) & (low_row >= 0) & (low_row < H) & (row < h)
        is_row = is_row & ((phase < S) | (low_row == H - 1))
        row = tl.where((phase < S) | (low_row == H - 1), row, low_row * S)
        row = clamp(row, h)
        at, tap_stride, row_stride = kept_at(
            kept, n, row // S, b, rows, cols, TAPS, S, POINTS_LAST, INDEX
        )
        at += row % S * row_stride + u * K * tap_stride + tl.zeros_like(c)
        kernels = ()  # [tap][cell][phase]
        for v in tl.static_range(K):
            of_tap = load_kept_tap(
                at + v * tap_stride, is_row, b, W, K // 2 - v, S, TAPS, CELLS, ACC, POINTS_LAST
            )
            kernels = kernels + (of_tap,)
        if POINTS_LAST:
            updated = ()
            for part in tl.static_range(PARTS):
                x = read(
                    grad, grad_strides, c + part * LANES, row, b * S, w,
                    C, K // 2 * S, CELLS * S, VECTOR, LANES, 1, ACC, POINTS_LAST,
                )  # fmt: skip
                for q in tl.static_range(CELLS):
                    total = sums[part * CELLS + q]
                    for v in tl.static_range(K):
                        for p in tl.static_range(S):
                            value = x[0][(q + K - 1 - v) * S + p]
                            total = tl.fma(value, kernels[v][q][p], total)
                    updated = updated + (total,)
            sums = updated
        else:
            x = read(
                grad, grad_strides, c, row, b * S, w,
                C, K // 2 * S, CELLS * S, VECTOR, LANES, PARTS, ACC, POINTS_LAST,
            )  # fmt: skip
            for m in tl.static_range(CELLS + K - 1):
                updated = ()
                for part in tl.static_range(PARTS):
                    for q in tl.static_range(CELLS):
                        total = sums[part * CELLS + q]
                        if (m >= q) and (m < q + K):
                            for p in tl.static_range(S):
                                value = x[part][m * S + p]
                                total = tl.fma(value, kernels[q + K - 1 - m][q][p], total)
                        updated = updated + (total,)
                sums = updated
        if WIDER:
            for v in tl.static_range(K):
                is_last = is_row & (b + (K // 2 - v) == W - 1)
                for p in tl.static_range(S - 1):
                    col = b * 0 + (W * S + p)
                    mask = is_last & (col < w)
                    y = read(
                        grad, grad_strides, c, row, tl.minimum(col, w - 1), w,
                        C, 0, 1, 1, LANES, PARTS, ACC, POINTS_LAST,
                    )  # fmt: skip
                    to = at + (v * tap_stride + (W - b) * CELL + p)
                    kernel = load_vector(to, mask, 1, ACC, POINTS_LAST)
                    wider = ()
                    for part in tl.static_range(PARTS):
                        value = tl.where(mask, y[part][0], 0.0)
                        wider = wider + (tl.fma(value, kernel[0], sums[part]),)
                    sums = wider

    grad_de += n * grad_de_strides[0]
    values = ()
    for part in tl.static_range(PARTS):
        of_part = ()
        for q in tl.static_range(CELLS):
            of_part = of_part + (sums[part * CELLS + q],)
        values = values + (of_part,)
    write(
        grad_de, grad_de_strides, c, a, b, W, values, is_there,
        C, CELLS, CELLS, LANES, PARTS, POINTS_LAST,
    )  # fmt: skip
