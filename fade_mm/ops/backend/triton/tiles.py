"""How large the pieces are that one program of a kernel works on: a table, by architecture.

Nothing is timed when the operator runs: no user waits for it, and runs repeat. An entry decides how
fast a kernel is and, in `backward_products` alone, in which order it adds. ``tools/benchmark_ops.py
--tune`` times all candidates on the GPU at hand and prints the entries that belong in `CHOSEN`.

An entry has, of a program, `TILE_H` times `TILE_W` groups of cells and `LANES` of channels, which
together are its threads, and of a thread:

- ``sums``: about how many sums it has in registers. `launch` makes as many cells and channels of
  it as the vectors that can be loaded allow.
- `CELLS` (backward): of a group, where the vectors allow.
- ``threads`` (`backward_kernels`): of a group, which share its taps; there are no channels.
- `ROWS`, `TAP_ROWS` (`backward_products`): rows of a cell's output points, and of the window of K
  rows; other threads have the others.

- ``registers``: the most of them, if Triton shall not choose.

What must hold: all numbers but ``sums``, ``registers`` and `TAP_ROWS` are powers of 2.
"""

Tile = dict[str, int]
Key = tuple[str, str, int]

LAYOUTS = ('contiguous', 'channels_last')

# By kernel, memory format and bytes of an element of the features; the first is used where no
# other is chosen. float64 has float32's. None of them spills on sm_80, sm_90 or sm_100.
CANDIDATES: dict[Key, list[Tile]] = {
    ('forward', 'contiguous', 4): [
        dict(TILE_H=4, TILE_W=8, LANES=4, sums=16, registers=128),
    ],
    ('forward', 'contiguous', 2): [
        dict(TILE_H=4, TILE_W=8, LANES=4, sums=32, registers=128),
        dict(TILE_H=4, TILE_W=8, LANES=4, sums=16, registers=128),
    ],
    ('forward', 'channels_last', 4): [
        dict(TILE_H=2, TILE_W=4, LANES=32, sums=16),
    ],
    ('forward', 'channels_last', 2): [
        dict(TILE_H=2, TILE_W=2, LANES=32, sums=32),
        dict(TILE_H=2, TILE_W=4, LANES=16, sums=32),
    ],
    ('backward_products', 'contiguous', 4): [
        dict(TILE_H=4, TILE_W=4, LANES=2, CELLS=2, ROWS=2, TAP_ROWS=1),
        dict(TILE_H=4, TILE_W=8, LANES=2, CELLS=2, ROWS=1, TAP_ROWS=3),
    ],
    ('backward_products', 'contiguous', 2): [
        dict(TILE_H=4, TILE_W=4, LANES=2, CELLS=4, ROWS=1, TAP_ROWS=1),
    ],
    ('backward_products', 'channels_last', 4): [
        dict(TILE_H=4, TILE_W=4, LANES=8, CELLS=1, ROWS=1, TAP_ROWS=3),
        dict(TILE_H=2, TILE_W=2, LANES=8, CELLS=1, ROWS=2, TAP_ROWS=1),
    ],
    ('backward_products', 'channels_last', 2): [
        dict(TILE_H=2, TILE_W=2, LANES=8, CELLS=1, ROWS=1, TAP_ROWS=1),
        dict(TILE_H=2, TILE_W=2, LANES=8, CELLS=1, ROWS=2, TAP_ROWS=1),
    ],
    ('backward_kernels', 'contiguous', 4): [dict(TILE_H=1, TILE_W=16, CELLS=2, threads=16)],
    ('backward_kernels', 'contiguous', 2): [dict(TILE_H=1, TILE_W=4, CELLS=4, threads=32)],
    ('backward_kernels', 'channels_last', 4): [dict(TILE_H=2, TILE_W=2, CELLS=1, threads=32)],
    ('backward_kernels', 'channels_last', 2): [dict(TILE_H=2, TILE_W=2, CELLS=1, threads=32)],
    ('backward_de', 'contiguous', 4): [
        dict(TILE_H=4, TILE_W=8, LANES=4, CELLS=2, sums=16),
        dict(TILE_H=4, TILE_W=8, LANES=4, CELLS=4, sums=8),
    ],
    ('backward_de', 'contiguous', 2): [
        dict(TILE_H=4, TILE_W=8, LANES=4, CELLS=4, sums=16, registers=128),
    ],
    ('backward_de', 'channels_last', 4): [
        dict(TILE_H=2, TILE_W=2, LANES=32, CELLS=2, sums=16, registers=128),
        dict(TILE_H=2, TILE_W=2, LANES=32, CELLS=1, sums=16),
    ],
    ('backward_de', 'channels_last', 2): [
        dict(TILE_H=2, TILE_W=2, LANES=32, CELLS=2, sums=16),
        dict(TILE_H=2, TILE_W=2, LANES=32, CELLS=1, sums=16),
    ],
}

# What an architecture has instead of the first candidate: so far, what spills nothing there but
# elsewhere, or takes fewer registers. Nothing was timed.
_WIDER: dict[Key, Tile] = {
    ('forward', 'contiguous', 4): dict(TILE_H=4, TILE_W=8, LANES=4, sums=32, registers=128),
    ('backward_de', 'channels_last', 4): dict(TILE_H=2, TILE_W=2, LANES=32, CELLS=2, sums=16),
}
CHOSEN: dict[str, dict[Key, Tile]] = {
    'sm_80': {},
    'sm_90': _WIDER,
    'sm_100': {
        **_WIDER,
        ('forward', 'channels_last', 4): dict(TILE_H=2, TILE_W=2, LANES=32, sums=32, registers=128),
        ('backward_products', 'channels_last', 4): dict(
            TILE_H=2, TILE_W=2, LANES=8, CELLS=1, ROWS=2, TAP_ROWS=1
        ),
        ('backward_de', 'channels_last', 2): dict(TILE_H=2, TILE_W=2, LANES=32, CELLS=1, sums=16),
    },
}

# Small, so that tests need several programs of several threads.
INTERPRETED: dict[str, Tile] = {
    'forward': dict(TILE_H=2, TILE_W=4, LANES=2, sums=16),
    'backward_products': dict(TILE_H=2, TILE_W=4, LANES=2, CELLS=2, ROWS=1, TAP_ROWS=2),
    'backward_kernels': dict(TILE_H=2, TILE_W=2, CELLS=2, threads=8),
    'backward_de': dict(TILE_H=2, TILE_W=4, LANES=2, CELLS=2, sums=4),
}


def tile_for(kernel: str, layout: str, itemsize: int, capability: tuple[int, int]) -> Tile:
    """The entry for a GPU: that of its architecture, or else of the newest one before it.

    Args:
        kernel: Its name.
        layout: One of `LAYOUTS`.
        itemsize: Bytes of an element of the features.
        capability: The GPU's compute capability.
    """
    key = kernel, layout, min(itemsize, 4)
    older = [arch for arch in CHOSEN if number_of(arch) <= 10 * capability[0] + capability[1]]
    chosen = CHOSEN[max(older, key=number_of)] if older else {}
    return chosen.get(key, CANDIDATES[key][0])


def candidates(kernel: str, layout: str, itemsize: int, capability: tuple[int, int]) -> list[Tile]:
    """All that are worth timing on a GPU, as for `tile_for`; the first is the one in use."""
    in_use = tile_for(kernel, layout, itemsize, capability)
    others = CANDIDATES[kernel, layout, min(itemsize, 4)]
    return [in_use, *(x for x in others if x != in_use)]


def number_of(arch: str) -> int:
    """The compute capability of ``sm_90`` as Triton writes it, 90."""
    return int(arch.removeprefix('sm_'))
