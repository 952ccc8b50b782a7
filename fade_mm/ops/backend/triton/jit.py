"""The device code of this backend, which needs Triton to be imported.

Everywhere, a program owns a tile of points and some channels. Memory is contiguous along a tile's
last axis: the points' where `POINTS_LAST` (``(N, C, H, W)`` in memory), else the channels'.

In `forward` and `backward_kernels` output points are addressed from low resolution: cell ``(i, j)``
of ``ceil(h / S) x ceil(w / S)`` has the output points ``(i * S + phase // S, j * S + phase % S)``
and reads around ``(min(i, H - 1), min(j, W - 1))``. So what rounding down left over is one more row
or column of cells. `PHASES` of a cell's ``S * S`` points are computed together, and each value of
``de`` is loaded once for all of them. Loads of features have no masks: what lies outside is read
inside, within the same window, and given no weight.

A point's kernel lies along the last axis of a tensor, padded to ``2**LEVELS`` taps. Loops over
channels need each tap as a tensor of its own: `_unstack` and `_stack` lead there and back.
"""

import triton
import triton.language as tl


@triton.jit
def _tile(index, rows, cols, TILE_H: tl.constexpr, TILE_W: tl.constexpr):
    """Batch element of tile ``index``, and its first row and column."""
    across = tl.cdiv(cols, TILE_W)
    tiles = tl.cdiv(rows, TILE_H) * across
    return (index // tiles).to(tl.int64), index % tiles // across * TILE_H, index % across * TILE_W


@triton.jit
def _clamp(x, size):
    return tl.minimum(tl.maximum(x, 0), size - 1)


@triton.jit
def _at(base, offset, POINTS_LAST: tl.constexpr):
    """Pointers, of which neighbouring threads take neighbouring points, one each.

    Triton cannot see that memory is contiguous along the points of a tile, and its versions differ
    in what they do then: 3.6 would go along the channels. The contiguity told here chooses the
    axis, and the alignment of 1 that nothing is loaded in pairs, which may lie apart.
    """
    pointers = base + offset
    if POINTS_LAST:
        pointers = tl.multiple_of(tl.max_contiguous(pointers, (1, 2)), (1, 1))
    return pointers


@triton.jit
def _sigmoid(x):
    return 1 / (1 + tl.exp(-x))


@triton.jit
def _softplus(x):
    return tl.maximum(x, 0.0) + tl.log(1 + tl.exp(-tl.abs(x)))


@triton.jit
def _unstack(x, LEVELS: tl.constexpr):
    """The ``2**LEVELS`` tensors along the last of three axes, as a tuple."""
    A: tl.constexpr = x.shape[0]
    B: tl.constexpr = x.shape[1]
    parts = (x,)
    for level in tl.static_range(LEVELS):
        low = ()
        high = ()
        for part in tl.static_range(2**level):
            pairs = tl.reshape(parts[part], (A, B, 2 ** (LEVELS - level - 1), 2))
            first, second = tl.split(pairs)
            low = low + (first,)
            high = high + (second,)
        parts = low + high
    flat = ()
    for part in tl.static_range(2**LEVELS):
        flat = flat + (tl.reshape(parts[part], (A, B)),)
    return flat


@triton.jit
def _stack(parts, TAPS: tl.constexpr, LEVELS: tl.constexpr):
    """`TAPS` tensors of two axes along a third one, padded with zeros to ``2**LEVELS``."""
    A: tl.constexpr = parts[0].shape[0]
    B: tl.constexpr = parts[0].shape[1]
    stacks = ()
    for part in tl.static_range(2**LEVELS):
        if part < TAPS:
            stacks = stacks + (tl.reshape(parts[part], (A, B, 1)),)
        else:
            stacks = stacks + (tl.reshape(tl.zeros_like(parts[0]), (A, B, 1)),)
    for level in tl.static_range(LEVELS):
        joined = ()
        for part in tl.static_range(2 ** (LEVELS - level - 1)):
            pairs = tl.join(stacks[part], stacks[2 ** (LEVELS - level - 1) + part])
            joined = joined + (tl.reshape(pairs, (A, B, 2 ** (level + 1))),)
        stacks = joined
    return stacks[0]


@triton.jit
def _add_up(x, VECTOR: tl.constexpr):
    """Sums of `VECTOR` neighbours along the last of two axes: what one thread has loaded."""
    if VECTOR > 1:
        x = tl.sum(tl.reshape(x, (x.shape[0], x.shape[1] // VECTOR, VECTOR)), axis=2)
    return x


@triton.jit
def _tap_offsets(stride, LEVELS: tl.constexpr, POINTS_LAST: tl.constexpr, INDEX: tl.constexpr):
    return tl.expand_dims(tl.arange(0, 2**LEVELS).to(INDEX) * stride, 1 if POINTS_LAST else 0)


@triton.jit
def _load_taps(
    points,
    stride,
    TAPS: tl.constexpr,
    LEVELS: tl.constexpr,
    POINTS_LAST: tl.constexpr,
    INDEX: tl.constexpr,
):
    """All taps at one-axis pointers to the first."""
    taps_axis: tl.constexpr = 0 if POINTS_LAST else 1
    mask = tl.expand_dims(tl.arange(0, 2**LEVELS) < TAPS, 1 - taps_axis)
    offsets = _tap_offsets(stride, LEVELS, POINTS_LAST, INDEX)
    pointers = _at(tl.expand_dims(points, taps_axis), offsets, POINTS_LAST)
    x = tl.load(pointers, mask=mask, other=0.0)
    return tl.permute(x, (1, 0)) if POINTS_LAST else x


@triton.jit
def _store_taps(
    points,
    stride,
    x,
    is_point,
    TAPS: tl.constexpr,
    LEVELS: tl.constexpr,
    POINTS_LAST: tl.constexpr,
    INDEX: tl.constexpr,
):
    taps_axis: tl.constexpr = 0 if POINTS_LAST else 1
    mask = tl.expand_dims(tl.arange(0, 2**LEVELS) < TAPS, 1 - taps_axis)
    mask = mask & tl.expand_dims(is_point, taps_axis)
    offsets = _tap_offsets(stride, LEVELS, POINTS_LAST, INDEX)
    pointers = _at(tl.expand_dims(points, taps_axis), offsets, POINTS_LAST)
    x = tl.permute(x, (1, 0)) if POINTS_LAST else x
    tl.store(pointers, x, mask=mask)


@triton.jit
def _softmax(x, TAPS: tl.constexpr, LEVELS: tl.constexpr):
    """The softmax along the last axis, and the logarithm of what it divides by."""
    x = tl.where((tl.arange(0, 2**LEVELS) < TAPS)[None, :], x, float('-inf'))
    top = tl.max(x, axis=1)
    x = tl.exp(x - top[:, None])
    total = tl.sum(x, axis=1)
    return x * (1 / total)[:, None], top + tl.log(total)


@triton.jit
def _inside(a, b, H, W, K: tl.constexpr, LEVELS: tl.constexpr):
    """Whether each tap reads inside of ``de``."""
    tap = tl.arange(0, 2**LEVELS)
    u = a[:, None] + (tap // K - K // 2)[None, :]
    v = b[:, None] + (tap % K - K // 2)[None, :]
    return (u >= 0) & (u < H) & (v >= 0) & (v < W)


@triton.jit(do_not_specialize=['h', 'w', 'H', 'W', 'size_class'])
def forward(
    out,
    out_strides,
    de,
    de_strides,
    logits,
    logits_strides,
    logits_de,
    logits_de_strides,
    gate,
    gate_strides,
    en,
    en_strides,
    h,
    w,
    H,
    W,
    size_class,
    C: tl.constexpr,
    K: tl.constexpr,
    S: tl.constexpr,
    SOFTMAX: tl.constexpr,
    POINTS_LAST: tl.constexpr,
    ACC: tl.constexpr,
    INDEX: tl.constexpr,
    PHASES: tl.constexpr,
    LEVELS: tl.constexpr,
    TILE_H: tl.constexpr,
    TILE_W: tl.constexpr,
    TILE_C: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """Some phases of a tile of cells, for `CHANNELS` channels, `TILE_C` at a time."""
    AXIS: tl.constexpr = 0 if POINTS_LAST else 1
    TAPS: tl.constexpr = K * K
    GROUPS: tl.constexpr = S * S // PHASES
    SPLITS: tl.constexpr = (C + CHANNELS - 1) // CHANNELS
    program = tl.program_id(0)
    first_channel = program % SPLITS * CHANNELS
    first_phase = program // SPLITS % GROUPS * PHASES
    n, i, j = _tile(program // (SPLITS * GROUPS), tl.cdiv(h, S), tl.cdiv(w, S), TILE_H, TILE_W)
    point = tl.arange(0, TILE_H * TILE_W).to(INDEX)
    i += point // TILE_W
    j += point % TILE_W
    a, b = tl.minimum(i, H - 1), tl.minimum(j, W - 1)

    de += n * de_strides[0]
    logits += n * logits_strides[0]
    out += n * out_strides[0]
    inside = _inside(a, b, H, W, K, LEVELS)
    if logits_de is not None:
        logits_de += n * logits_de_strides[0] + a * logits_de_strides[2] + b * logits_de_strides[3]
        low_logits = _load_taps(logits_de, logits_de_strides[1], TAPS, LEVELS, POINTS_LAST, INDEX)
    if gate is not None:
        gate += n * gate_strides[0] + a * gate_strides[2] + b * gate_strides[3]
        en += n * en_strides[0]
        opened = _sigmoid(tl.load(gate).to(ACC))
    weights = ()
    rows = ()
    cols = ()
    is_point = ()
    for p in tl.static_range(PHASES):
        row = i * S + (first_phase + p) // S
        col = j * S + (first_phase + p) % S
        is_point = is_point + (tl.expand_dims((row < h) & (col < w), AXIS),)
        row, col = tl.minimum(row, h - 1), tl.minimum(col, w - 1)
        rows = rows + (tl.expand_dims(row, AXIS),)
        cols = cols + (tl.expand_dims(col, AXIS),)
        taps_at = logits + row * logits_strides[2] + col * logits_strides[3]
        kernels = _load_taps(taps_at, logits_strides[1], TAPS, LEVELS, POINTS_LAST, INDEX).to(ACC)
        if logits_de is not None:
            kernels += low_logits.to(ACC)
        if SOFTMAX:
            kernels, _ = _softmax(kernels, TAPS, LEVELS)
        if gate is not None:
            kernels *= (1 - opened)[:, None]
        kernels = tl.where(inside, kernels, 0.0)
        weights = weights + (_unstack(tl.expand_dims(kernels, AXIS), LEVELS),)
    a, b = tl.expand_dims(a, AXIS), tl.expand_dims(b, AXIS)
    if gate is not None:
        opened = tl.expand_dims(opened, AXIS)

    for start in range(first_channel, min(first_channel + CHANNELS, C), TILE_C):
        c = (start + tl.expand_dims(tl.arange(0, TILE_C), 1 - AXIS)).to(INDEX)
        is_channel = c < C
        if C % TILE_C != 0:
            c = tl.minimum(c, C - 1)
        sums = ()
        for p in tl.static_range(PHASES):
            if gate is None:
                sums = sums + (tl.zeros_like(c + a).to(ACC),)
            else:
                offset = rows[p] * en_strides[2] + cols[p] * en_strides[3]
                x = tl.load(_at(en + c * en_strides[1], offset, POINTS_LAST)).to(ACC)
                sums = sums + (x * opened,)
        for tap in tl.static_range(TAPS):
            u = _clamp(a + (tap // K - K // 2), H) * de_strides[2]
            v = _clamp(b + (tap % K - K // 2), W) * de_strides[3]
            x = tl.load(_at(de + c * de_strides[1], u + v, POINTS_LAST)).to(ACC)
            updated = ()
            for p in tl.static_range(PHASES):
                updated = updated + (tl.fma(x, weights[p][tap], sums[p]),)
            sums = updated
        for p in tl.static_range(PHASES):
            offset = rows[p] * out_strides[2] + cols[p] * out_strides[3]
            pointers = _at(out + c * out_strides[1], offset, POINTS_LAST)
            tl.store(pointers, sums[p], mask=is_point[p] & is_channel)


@triton.jit(do_not_specialize=['h', 'w', 'H', 'W', 'size_class'])
def backward_kernels(
    grad,
    grad_strides,
    de,
    de_strides,
    logits,
    logits_strides,
    logits_de,
    logits_de_strides,
    gate,
    gate_strides,
    en,
    en_strides,
    grad_logits,
    grad_logits_strides,
    grad_logits_de,
    grad_logits_de_strides,
    grad_gate,
    grad_gate_strides,
    grad_en,
    grad_en_strides,
    normaliser,
    h,
    w,
    H,
    W,
    size_class,
    C: tl.constexpr,
    K: tl.constexpr,
    S: tl.constexpr,
    SOFTMAX: tl.constexpr,
    POINTS_LAST: tl.constexpr,
    ACC: tl.constexpr,
    INDEX: tl.constexpr,
    PHASES: tl.constexpr,
    LEVELS: tl.constexpr,
    TILE_H: tl.constexpr,
    TILE_W: tl.constexpr,
    TILE_C: tl.constexpr,
):
    """All gradients but that of ``de``, as far as they are given, for a tile of cells.

    Those of ``logits_de`` and ``gate`` are sums over a cell. ``normaliser`` ``(N, h, w)`` is what
    `backward_de` needs to compute a kernel's tap, times ``1 - sigmoid(gate)``, from its logit
    alone: with a softmax, what to subtract before the exponential; else the factor.
    """
    AXIS: tl.constexpr = 0 if POINTS_LAST else 1
    VECTOR: tl.constexpr = 1 if POINTS_LAST else 4
    TAPS: tl.constexpr = K * K
    n, i, j = _tile(tl.program_id(0), tl.cdiv(h, S), tl.cdiv(w, S), TILE_H, TILE_W)
    point = tl.arange(0, TILE_H * TILE_W).to(INDEX)
    i += point // TILE_W
    j += point % TILE_W
    is_cell = (i < tl.cdiv(h, S)) & (j < tl.cdiv(w, S))
    a, b = tl.minimum(i, H - 1), tl.minimum(j, W - 1)

    grad += n * grad_strides[0]
    de += n * de_strides[0]
    logits += n * logits_strides[0]
    inside = _inside(a, b, H, W, K, LEVELS)
    a_, b_ = tl.expand_dims(a, AXIS), tl.expand_dims(b, AXIS)
    cell_logits = tl.zeros_like(inside).to(ACC)
    cell_gate = tl.zeros_like(i).to(ACC)
    if logits_de is not None:
        logits_de += n * logits_de_strides[0] + a * logits_de_strides[2] + b * logits_de_strides[3]
        low_logits = _load_taps(logits_de, logits_de_strides[1], TAPS, LEVELS, POINTS_LAST, INDEX)
    if gate is not None:
        gate += n * gate_strides[0] + a * gate_strides[2] + b * gate_strides[3]
        low_gate = tl.load(gate).to(ACC)
        opened = _sigmoid(low_gate)
        opened_ = tl.expand_dims(opened, AXIS)
        en += n * en_strides[0]
        if grad_en is not None:
            grad_en += n * grad_en_strides[0]

    for first_phase in range(0, S * S, PHASES):
        rows = ()
        cols = ()
        is_point = ()
        sums = ()
        products = ()
        channel = tl.expand_dims(tl.arange(0, TILE_C), 1 - AXIS)
        zero = _add_up(tl.zeros_like(channel + a_).to(ACC), VECTOR)
        for p in tl.static_range(PHASES):
            row = i * S + (first_phase + p) // S
            col = j * S + (first_phase + p) % S
            is_point = is_point + ((row < h) & (col < w),)
            rows = rows + (tl.minimum(row, h - 1),)
            cols = cols + (tl.minimum(col, w - 1),)
            products = products + (zero,)
        for _ in tl.static_range(TAPS):
            sums = sums + (products,)

        for start in range(0, C, TILE_C):
            c = (start + tl.expand_dims(tl.arange(0, TILE_C), 1 - AXIS)).to(INDEX)
            is_channel = c < C
            if C % TILE_C != 0:
                c = tl.minimum(c, C - 1)
            grads = ()
            new_products = ()
            for p in tl.static_range(PHASES):
                y, x = tl.expand_dims(rows[p], AXIS), tl.expand_dims(cols[p], AXIS)
                offset = y * grad_strides[2] + x * grad_strides[3]
                g = tl.load(_at(grad + c * grad_strides[1], offset, POINTS_LAST)).to(ACC)
                if C % TILE_C != 0:
                    g = tl.where(is_channel, g, 0.0)
                grads = grads + (g,)
                if gate is not None:
                    offset = y * en_strides[2] + x * en_strides[3]
                    e = tl.load(_at(en + c * en_strides[1], offset, POINTS_LAST)).to(ACC)
                    product = _add_up(g * e, VECTOR)
                    new_products = new_products + (products[p] + product,)
                    if grad_en is not None:
                        offset = y * grad_en_strides[2] + x * grad_en_strides[3]
                        pointers = _at(grad_en + c * grad_en_strides[1], offset, POINTS_LAST)
                        mask = tl.expand_dims(is_point[p], AXIS) & is_channel
                        tl.store(pointers, g * opened_, mask=mask)
            if gate is not None:
                products = new_products
            new_sums = ()
            for tap in tl.static_range(TAPS):
                u = _clamp(a_ + (tap // K - K // 2), H) * de_strides[2]
                v = _clamp(b_ + (tap % K - K // 2), W) * de_strides[3]
                value = tl.load(_at(de + c * de_strides[1], u + v, POINTS_LAST)).to(ACC)
                totals = ()
                for p in tl.static_range(PHASES):
                    if VECTOR > 1:
                        total = sums[tap][p] + _add_up(value * grads[p], VECTOR)
                    else:
                        total = tl.fma(value, grads[p], sums[tap][p])
                    totals = totals + (total,)
                new_sums = new_sums + (totals,)
            sums = new_sums

        for p in tl.static_range(PHASES):
            taps_at = logits + rows[p] * logits_strides[2] + cols[p] * logits_strides[3]
            kernels = _load_taps(taps_at, logits_strides[1], TAPS, LEVELS, POINTS_LAST, INDEX).to(
                ACC
            )
            if logits_de is not None:
                kernels += low_logits.to(ACC)
            parts = ()
            for tap in tl.static_range(TAPS):
                parts = parts + (sums[tap][p],)
            grad_kernels = tl.sum(_stack(parts, TAPS, LEVELS), axis=AXIS)
            grad_kernels = tl.where(inside, grad_kernels, 0.0)
            if SOFTMAX:
                kernels, divisor = _softmax(kernels, TAPS, LEVELS)
            inner = tl.sum(kernels * grad_kernels, axis=1)
            if SOFTMAX:
                grad_kernels = kernels * (grad_kernels - inner[:, None])
            if gate is not None:
                grad_kernels *= (1 - opened)[:, None]
                product = tl.sum(products[p], axis=AXIS) - inner
                cell_gate += tl.where(is_point[p], product, 0.0)
            if logits_de is not None:
                cell_logits += tl.where(is_point[p][:, None], grad_kernels, 0.0)
            if grad_logits is not None:
                taps_at = grad_logits + n * grad_logits_strides[0]
                taps_at += rows[p] * grad_logits_strides[2] + cols[p] * grad_logits_strides[3]
                _store_taps(
                    taps_at,
                    grad_logits_strides[1],
                    grad_kernels,
                    is_point[p],
                    TAPS,
                    LEVELS,
                    POINTS_LAST,
                    INDEX,
                )
            if SOFTMAX:
                if gate is not None:
                    divisor += _softplus(low_gate)
                tl.store(normaliser + n * h * w + rows[p] * w + cols[p], divisor, mask=is_point[p])
            elif gate is not None:
                factor = 1 - opened
                tl.store(normaliser + n * h * w + rows[p] * w + cols[p], factor, mask=is_point[p])

    if grad_gate is not None:
        grad_gate += n * grad_gate_strides[0] + i * grad_gate_strides[2] + j * grad_gate_strides[3]
        tl.store(grad_gate, cell_gate * opened * (1 - opened), mask=is_cell)
    if grad_logits_de is not None:
        grad_logits_de += n * grad_logits_de_strides[0]
        grad_logits_de += i * grad_logits_de_strides[2] + j * grad_logits_de_strides[3]
        _store_taps(
            grad_logits_de,
            grad_logits_de_strides[1],
            cell_logits,
            is_cell,
            TAPS,
            LEVELS,
            POINTS_LAST,
            INDEX,
        )


@triton.jit(do_not_specialize=['h', 'w', 'H', 'W', 'size_class'])
def backward_de(
    grad,
    grad_strides,
    logits,
    logits_strides,
    logits_de,
    logits_de_strides,
    normaliser,
    grad_de,
    grad_de_strides,
    h,
    w,
    H,
    W,
    size_class,
    C: tl.constexpr,
    K: tl.constexpr,
    S: tl.constexpr,
    SOFTMAX: tl.constexpr,
    POINTS_LAST: tl.constexpr,
    ACC: tl.constexpr,
    INDEX: tl.constexpr,
    LANES: tl.constexpr,
    ROWS: tl.constexpr,
    TILE_H: tl.constexpr,
    TILE_W: tl.constexpr,
    TILE_C: tl.constexpr,
    CHUNKS: tl.constexpr,
):
    """The gradient of ``de``: for each of its points, a sum over all output points that read it.

    A point stands for `ROWS` rows of ``de`` below each other, which share what they load, and for
    `CHUNKS` times `TILE_C` channels, which share the kernels. `LANES` neighbouring output points
    are summed side by side first, to load them in one piece, and `TILE_W` counts these.
    """
    AXIS: tl.constexpr = 0 if POINTS_LAST else 1
    COLS: tl.constexpr = TILE_W // LANES
    SPLITS: tl.constexpr = (C + CHUNKS * TILE_C - 1) // (CHUNKS * TILE_C)
    program = tl.program_id(0)
    n, i, j = _tile(program // SPLITS, tl.cdiv(H, ROWS), W, TILE_H, COLS)
    # Output points that rounding down left over read around the last row or column.
    right = S
    if j + COLS + K // 2 >= W:
        right += tl.maximum(w - W * S, 0)
    down = S
    if (i + TILE_H) * ROWS + K // 2 >= H:
        down += tl.maximum(h - H * S, 0)
    lane = tl.expand_dims(tl.arange(0, TILE_H * TILE_W).to(INDEX), AXIS)
    a = (i + lane // TILE_W) * ROWS
    b = j + lane // LANES % COLS
    first_channel = program % SPLITS * (CHUNKS * TILE_C)
    c = (first_channel + tl.expand_dims(tl.arange(0, TILE_C), 1 - AXIS)).to(INDEX)
    grad_step = tl.full((), TILE_C, INDEX) * grad_strides[1]
    grad_de_step = tl.full((), TILE_C, INDEX) * grad_de_strides[1]

    grad += n * grad_strides[0] + c * grad_strides[1]
    logits += n * logits_strides[0]
    if logits_de is not None:
        logits_de += n * logits_de_strides[0]
    if normaliser is not None:
        normaliser += n * h * w
    sums = ()
    for _ in tl.static_range(ROWS):
        zeros = ()
        for _ in tl.static_range(CHUNKS):
            zeros = zeros + (tl.zeros_like(c + a).to(ACC),)
        sums = sums + (zeros,)
    for phase in range(down):
        steps = tl.cdiv(right, LANES)
        for shift in range(K * steps):
            v = shift // steps
            across = shift % steps * LANES + lane % LANES
            low_col = b + (K // 2 - v)
            col = low_col * S + across
            is_col = (low_col >= 0) & (low_col < W) & (col < w) & (across < right)
            is_col = is_col & ((across < S) | (low_col == W - 1))
            for t in tl.static_range(ROWS + K - 1):
                low_row = a + (t - K // 2)
                row = low_row * S + phase
                mask = is_col & (low_row >= 0) & (low_row < H) & (row < h)
                mask = mask & ((phase < S) | (low_row == H - 1))
                grads = ()
                offset = row * grad_strides[2] + col * grad_strides[3]
                for chunk in tl.static_range(CHUNKS):
                    at = _at(grad + chunk * grad_step, offset, POINTS_LAST)
                    if C % (CHUNKS * TILE_C) == 0:
                        g = tl.load(at, mask=mask, other=0.0)
                    else:
                        g = tl.load(at, mask=mask & (c + chunk * TILE_C < C), other=0.0)
                    grads = grads + (g.to(ACC),)
                offset = row * logits_strides[2] + col * logits_strides[3]
                if logits_de is not None:
                    low_offset = low_row * logits_de_strides[2] + low_col * logits_de_strides[3]
                if normaliser is not None:
                    at = _at(normaliser, row * w + col, POINTS_LAST)
                    divisor = tl.load(at, mask=mask, other=0.0)
                updated = ()
                for q in tl.static_range(ROWS):
                    if (t >= q) and (t < q + K):
                        tap = ((K - 1 - t + q) * K + v).to(INDEX)
                        at = _at(logits + tap * logits_strides[1], offset, POINTS_LAST)
                        x = tl.load(at, mask=mask, other=0.0).to(ACC)
                        if logits_de is not None:
                            at = logits_de + tap * logits_de_strides[1]
                            at = _at(at, low_offset, POINTS_LAST)
                            y = tl.load(at, mask=mask, other=0.0)
                            x += y.to(ACC)
                        if SOFTMAX:
                            x = tl.exp(x - divisor)
                        elif normaliser is not None:
                            x *= divisor
                        totals = ()
                        for chunk in tl.static_range(CHUNKS):
                            totals = totals + (tl.fma(grads[chunk], x, sums[q][chunk]),)
                        updated = updated + (totals,)
                    else:
                        updated = updated + (sums[q],)
                sums = updated

    point = tl.expand_dims(tl.arange(0, TILE_H * COLS).to(INDEX), AXIS)
    a = (i + point // COLS) * ROWS
    b = j + point % COLS
    grad_de += n * grad_de_strides[0] + c * grad_de_strides[1]
    for q in tl.static_range(ROWS):
        for chunk in tl.static_range(CHUNKS):
            offset = (a + q) * grad_de_strides[2] + b * grad_de_strides[3]
            at = _at(grad_de + chunk * grad_de_step, offset, POINTS_LAST)
            mask = (c + chunk * TILE_C < C) & (a + q < H) & (b < W)
            tl.store(at, _add_up(sums[q][chunk], LANES), mask=mask)
