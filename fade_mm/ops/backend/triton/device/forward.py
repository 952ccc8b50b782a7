"""The forward kernel: softmax, reassembly and gate in one.

What must hold:

- A program computes the kernels of its cells and keeps them (`kernels.py`), passes a barrier, and
  goes through `channels` channels with what it has kept. So a thread needs no registers for its
  kernels, and all channels share them.
- Several programs may have the same cells and other channels. They keep the same bits in the same
  place: each reads after its own barrier, whoever wrote last.
- The sums of an output do not depend on tiles: taps are added in their order to the gated ``en``.
"""

import triton
import triton.language as tl

from .geometry import ceil_div, clamp, groups_of, read, tile_of, write
from .kernels import keep_kernels_by_cell, keep_kernels_by_point, kept_at, load_kept, sigmoid


@triton.jit(do_not_specialize=['h', 'w', 'H', 'W', 'channels'])
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
    kept,
    h,
    w,
    H,
    W,
    channels,
    C: tl.constexpr,
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
    LANES: tl.constexpr,
    CELLS: tl.constexpr,
    PARTS: tl.constexpr,
):
    """The output of a tile of groups, for some channels, `LANES` times `PARTS` at a time."""
    AXIS: tl.constexpr = 0 if POINTS_LAST else 1
    GROUPS: tl.constexpr = TILE_H * TILE_W
    TAPS: tl.constexpr = K * K
    rows, cols = ceil_div(h, S), ceil_div(w, S)
    splits = ceil_div(C, channels)
    program = tl.program_id(0)
    n, top, left = tile_of(program // splits, rows, ceil_div(cols, CELLS), TILE_H, TILE_W)

    i, j, is_there = groups_of(top, left, rows, cols, GROUPS, TILE_W, CELLS, INDEX)
    if POINTS_LAST:
        ACROSS: tl.constexpr = TILE_W * CELLS * S
        POINTS: tl.constexpr = TILE_H * S * ACROSS
        for first in range(0, POINTS, GROUPS * LANES):
            point = tl.minimum(first + tl.arange(0, GROUPS * LANES).to(INDEX), POINTS - 1)
            row = tl.minimum(top + point // (S * ACROSS), rows - 1) * S + point // ACROSS % S
            col = (left + point % ACROSS // (CELLS * S)) * CELLS
            col = tl.minimum(col, cols - CELLS) * S + point % (CELLS * S)
            keep_kernels_by_point(
                kept, logits, logits_strides, logits_de, logits_de_strides, gate, gate_strides,
                n, row, col, rows, cols, h, w, H, W,
                K, S, SOFTMAX, ACC, INDEX,
            )  # fmt: skip
    else:
        for q in range(CELLS):
            keep_kernels_by_cell(
                kept, logits, logits_strides, logits_de, logits_de_strides, gate, gate_strides,
                n, i, j + q, rows, cols, h, w, H, W,
                K, S, SOFTMAX, ACC, INDEX, LEVELS,
            )  # fmt: skip
    tl.debug_barrier()

    a, b = tl.minimum(i, H - 1), tl.minimum(j, W - 1)
    if gate is not None:
        gate += n * gate_strides[0] + a * gate_strides[2]
        opened = ()
        for q in tl.static_range(CELLS):
            at = gate + tl.minimum(j + q, W - 1) * gate_strides[3]
            opened = opened + (tl.expand_dims(sigmoid(tl.load(at).to(ACC)), AXIS),)
        en += n * en_strides[0]
    de += n * de_strides[0]
    out += n * out_strides[0]
    i, j, a, b = (
        tl.expand_dims(i, AXIS),
        tl.expand_dims(j, AXIS),
        tl.expand_dims(a, AXIS),
        tl.expand_dims(b, AXIS),
    )
    is_there = tl.expand_dims(is_there, AXIS)
    STEP: tl.constexpr = LANES * PARTS
    lane = tl.expand_dims(tl.arange(0, LANES).to(INDEX), 1 - AXIS)
    if not POINTS_LAST:
        lane *= PARTS
    kept, tap_stride, row_stride = kept_at(kept, n, i, j, rows, cols, TAPS, S, POINTS_LAST, INDEX)
    kept += tl.zeros_like(lane)

    first_channel = program % splits * channels
    for start in range(first_channel, min(first_channel + channels, C), STEP):
        c = start + lane
        sums = ()
        for r in tl.static_range(S):
            if gate is not None:
                row = tl.minimum(i * S + r, h - 1)
                skip = read(
                    en, en_strides, c, row, j * S, w,
                    C, 0, CELLS * S, VECTOR, LANES, PARTS, ACC, POINTS_LAST,
                )  # fmt: skip
            for part in tl.static_range(PARTS):
                for q in tl.static_range(CELLS):
                    for p in tl.static_range(S):
                        if gate is not None:
                            sums = sums + (skip[part][q * S + p] * opened[q],)
                        else:
                            sums = sums + (tl.zeros_like(c + i).to(ACC),)
        for u in range(K):
            x = read(
                de, de_strides, c, clamp(a + (u - K // 2), H), b, W,
                C, K // 2, CELLS, VECTOR, LANES, PARTS, ACC, POINTS_LAST,
            )  # fmt: skip
            for v in tl.static_range(K):
                kernels = load_kept(
                    kept + (u * K + v) * tap_stride, row_stride,
                    S, TAPS, CELLS, ACC, POINTS_LAST,
                )  # fmt: skip
                updated = ()
                for r in tl.static_range(S):
                    for part in tl.static_range(PARTS):
                        for q in tl.static_range(CELLS):
                            for p in tl.static_range(S):
                                total = tl.fma(
                                    x[part][q + v],
                                    kernels[r][q * S + p],
                                    sums[((r * PARTS + part) * CELLS + q) * S + p],
                                )
                                updated = updated + (total,)
                sums = updated
        for r in tl.static_range(S):
            values = ()
            for part in tl.static_range(PARTS):
                of_part = ()
                for k in tl.static_range(CELLS * S):
                    of_part = of_part + (sums[(r * PARTS + part) * CELLS * S + k],)
                values = values + (of_part,)
            row = i * S + r
            write(
                out, out_strides, c, row, j * S, w, values, is_there & (row < h),
                C, CELLS * S, VECTOR, LANES, PARTS, POINTS_LAST,
            )  # fmt: skip
