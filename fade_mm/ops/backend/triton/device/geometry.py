"""Where a thread of the device code reads and writes, and how it cuts vectors into numbers.

What holds in `forward`, `backward_products` and `backward_de`, which go through the channels:

- Output points are addressed from low resolution. Cell ``(i, j)`` of ``rows x cols``, the sizes of
  the output divided by S and rounded up, has the points ``(i * S + r, j * S + p)`` and reads around
  ``(min(i, H - 1), min(j, W - 1))`` of ``de``. So what rounding down left over is one more row or
  column of cells.
- A thread has a group of `CELLS` cells side by side and `PARTS` channels. Its tensors have two
  axes, groups and lanes of channels, with as many elements as a program has threads: one each. So
  no layout can differ from another, nothing moves between threads, and what a thread has more than
  one of is a tuple.
- Memory is contiguous along the points where `POINTS_LAST` (``(N, C, H, W)`` in memory; lanes are
  the first axis), else along the channels (lanes are the second). Along it, a thread reads and
  writes vectors, which lie where they are aligned: `VECTOR` output points, or `PARTS` channels.
- Reads have no masks: what lies outside is read inside, within the same window, and given no
  weight. So a NaN spreads no further than the definition says.
"""

import triton
import triton.language as tl


@triton.jit
def ceil_div(a, b):
    return (a + b - 1) // b


@triton.jit
def clamp(x, size):
    return tl.minimum(tl.maximum(x, 0), size - 1)


@triton.jit
def tile_of(index, rows, cols, TILE_H: tl.constexpr, TILE_W: tl.constexpr):
    """Batch element of a tile of ``rows x cols``, and its first row and column."""
    across = ceil_div(cols, TILE_W)
    tiles = ceil_div(rows, TILE_H) * across
    return (index // tiles).to(tl.int64), index % tiles // across * TILE_H, index % across * TILE_W


@triton.jit
def groups_of(
    i,
    j,
    rows,
    cols,
    COUNT: tl.constexpr,
    TILE_W: tl.constexpr,
    CELLS: tl.constexpr,
    INDEX: tl.constexpr,
):
    """Row and first column of the groups of a tile, and whether they are there.

    Those that are not are copies of the last one; a row's last group is moved to the left until it
    is full, over cells that another one has, too, and computes the same.
    """
    group = tl.arange(0, COUNT).to(INDEX)
    i, j = i + group // TILE_W, (j + group % TILE_W) * CELLS
    return tl.minimum(i, rows - 1), tl.minimum(j, cols - CELLS), (i < rows) & (j < cols)


@triton.jit
def unstack(x, COUNT: tl.constexpr):
    """The `COUNT` tensors along the last of three axes, a power of 2, as a tuple."""
    A: tl.constexpr = x.shape[0]
    B: tl.constexpr = x.shape[1]
    LEVELS: tl.constexpr = COUNT.bit_length() - 1
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
    for part in tl.static_range(COUNT):
        flat = flat + (tl.reshape(parts[part], (A, B)),)
    return flat


@triton.jit
def stack(parts, COUNT: tl.constexpr):
    """The inverse of `unstack`."""
    A: tl.constexpr = parts[0].shape[0]
    B: tl.constexpr = parts[0].shape[1]
    LEVELS: tl.constexpr = COUNT.bit_length() - 1
    stacks = ()
    for part in tl.static_range(COUNT):
        stacks = stacks + (tl.reshape(parts[part], (A, B, 1)),)
    for level in tl.static_range(LEVELS):
        joined = ()
        for part in tl.static_range(2 ** (LEVELS - level - 1)):
            pairs = tl.join(stacks[part], stacks[2 ** (LEVELS - level - 1) + part])
            joined = joined + (tl.reshape(pairs, (A, B, 2 ** (level + 1))),)
        stacks = joined
    return stacks[0]


@triton.jit
def vectors_at(pointers, COUNT: tl.constexpr):
    """Pointers to `COUNT` neighbours from each of two-axis pointers on, which is aligned.

    Triton cannot see that they are, and is told.
    """
    SIZE: tl.constexpr = pointers.dtype.element_ty.primitive_bitwidth // 8
    pointers = tl.expand_dims(pointers, 2) + tl.arange(0, COUNT)[None, None, :]
    pointers = tl.multiple_of(pointers, (1, 1, COUNT * SIZE))
    return tl.max_contiguous(pointers, (1, 1, COUNT))


@triton.jit
def scalars_at(pointers, POINTS_LAST: tl.constexpr):
    """Two-axis pointers, of which neighbouring threads take neighbouring points, one each.

    Triton cannot see that memory is contiguous along the points of a tile, and its versions differ
    in what they do then: 3.6 would go along the channels. The contiguity told here chooses the
    axis, and the alignment of 1 that nothing is loaded in pairs, which may lie apart.
    """
    if POINTS_LAST:
        pointers = tl.multiple_of(tl.max_contiguous(pointers, (1, 2)), (1, 1))
    return pointers


@triton.jit
def load_vector(pointers, mask, COUNT: tl.constexpr, ACC: tl.constexpr, POINTS_LAST: tl.constexpr):
    """`COUNT` neighbours from each of two-axis pointers on, as a tuple; zeros outside a mask."""
    if COUNT == 1:
        pointers = scalars_at(pointers, POINTS_LAST)
    else:
        pointers = vectors_at(pointers, COUNT)
        if mask is not None:
            mask = tl.expand_dims(mask, 2)
    x = tl.load(pointers) if mask is None else tl.load(pointers, mask=mask, other=0.0)
    x = x.to(ACC)
    if COUNT == 1:
        return (x,)
    return unstack(x, COUNT)


@triton.jit
def store_vector(pointers, parts, mask, COUNT: tl.constexpr, POINTS_LAST: tl.constexpr):
    """Write `COUNT` neighbours from each of two-axis pointers on."""
    TYPE: tl.constexpr = pointers.dtype.element_ty
    if COUNT == 1:
        tl.store(scalars_at(pointers, POINTS_LAST), parts[0].to(TYPE), mask=mask)
    else:
        mask = tl.expand_dims(mask, 2)
        tl.store(vectors_at(pointers, COUNT), stack(parts, COUNT).to(TYPE), mask=mask)


@triton.jit
def read(
    x,
    strides,
    channel,
    row,
    col,
    width,
    C: tl.constexpr,
    EDGE: tl.constexpr,
    COUNT: tl.constexpr,
    VECTOR: tl.constexpr,
    LANES: tl.constexpr,
    PARTS: tl.constexpr,
    ACC: tl.constexpr,
    POINTS_LAST: tl.constexpr,
):
    """Values of a row from ``col`` on, `COUNT` and `EDGE` more on both sides: [part][column].

    ``col`` is a multiple of `COUNT`, or vectors are not asked for; the parts of a lane's channels
    are `LANES` apart where `POINTS_LAST`, else neighbours.
    """
    found = ()
    if POINTS_LAST:
        PIECE: tl.constexpr = min(COUNT, VECTOR)
        SIDE: tl.constexpr = max(min(EDGE & -EDGE, PIECE), 1)
        for part in tl.static_range(PARTS):
            at = x + tl.minimum(channel + part * LANES, C - 1) * strides[1] + row * strides[2]
            columns = ()
            for piece in tl.static_range(EDGE // SIDE):
                start = clamp(col - EDGE + piece * SIDE, width - SIDE + 1)
                at_start = at + start * strides[3]
                columns = columns + load_vector(at_start, None, SIDE, ACC, POINTS_LAST)
            for piece in tl.static_range(COUNT // PIECE):
                start = tl.minimum(col + piece * PIECE, width - PIECE)
                at_start = at + start * strides[3]
                columns = columns + load_vector(at_start, None, PIECE, ACC, POINTS_LAST)
            for piece in tl.static_range(EDGE // SIDE):
                start = clamp(col + COUNT + piece * SIDE, width - SIDE + 1)
                at_start = at + start * strides[3]
                columns = columns + load_vector(at_start, None, SIDE, ACC, POINTS_LAST)
            found = found + (columns,)
    else:
        columns = ()
        at = x + tl.minimum(channel, C - PARTS) * strides[1] + row * strides[2]
        for column in tl.static_range(COUNT + 2 * EDGE):
            start = clamp(col - EDGE + column, width)
            at_start = at + start * strides[3]
            columns = columns + (load_vector(at_start, None, PARTS, ACC, POINTS_LAST),)
        for part in tl.static_range(PARTS):
            of_part = ()
            for column in tl.static_range(COUNT + 2 * EDGE):
                of_part = of_part + (columns[column][part],)
            found = found + (of_part,)
    return found


@triton.jit
def write(
    x,
    strides,
    channel,
    row,
    col,
    width,
    values,
    mask,
    C: tl.constexpr,
    COUNT: tl.constexpr,
    VECTOR: tl.constexpr,
    LANES: tl.constexpr,
    PARTS: tl.constexpr,
    POINTS_LAST: tl.constexpr,
):
    """The inverse of `read`, where ``mask`` and channel and column are there."""
    if POINTS_LAST:
        PIECE: tl.constexpr = min(COUNT, VECTOR)
        for part in tl.static_range(PARTS):
            c = channel + part * LANES
            at = x + c * strides[1] + row * strides[2]
            for piece in tl.static_range(COUNT // PIECE):
                start = col + piece * PIECE
                numbers = ()
                for k in tl.static_range(PIECE):
                    numbers = numbers + (values[part][piece * PIECE + k],)
                is_there = mask & (c < C) & (start < width)
                store_vector(at + start * strides[3], numbers, is_there, PIECE, POINTS_LAST)
    else:
        at = x + channel * strides[1] + row * strides[2]
        for column in tl.static_range(COUNT):
            numbers = ()
            for part in tl.static_range(PARTS):
                numbers = numbers + (values[part][column],)
            is_there = mask & (channel < C) & (col + column < width)
            store_vector(at + (col + column) * strides[3], numbers, is_there, PARTS, POINTS_LAST)
