"""The published latency of upsamplers measured again, and what of a GPU the operator reaches.

`tools/benchmark_ops.py` runs this: with ``--published``, DySample's set-up (arXiv 2308.15085,
figure 1: ``de`` 1x256x120x120, ``en`` 1x256x240x240, float32, the whole layer, forward), with and
without TF32 convolutions, and the same with backward and in half precision; with ``--tune``, the
tiles of the table.
"""

import argparse
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from benchmark_ops import OPERATOR, bytes_moved, measure, on_backend, seconds, with_backward
from torch import Tensor

from fade_mm.memory import peak_memory
from fade_mm.ops import decomposition, gated_reassemble, reassemble
from fade_mm.ops.backend import available_backends, triton
from fade_mm.ops.backend.triton import launch, report, tiles
from fade_mm.ops.geometry import nearest_up
from fade_mm.ops.problem import Problem
from fade_mm.upsamplers import UPSAMPLERS, build_upsampler

PUBLISHED = {
    'bilinear': '1.6',
    'dysample': '6.2 to 7.6',
    'dysample_plus': '6.2 to 7.6',
    'dysample_s': '6.2 to 7.6',
    'dysample_s_plus': '6.2 to 7.6',
    'deconv3': '10.4',
    'carafe': '12.6',
    'fade': '22.9',
    'sapa_b': '27.8',
    'pixel_shuffle3': '28.0',
}
"""Milliseconds by DySample's figure 1, read off the picture to 0.1 ms, on a GPU that it does not
name."""
NEEDED = {'deconv': dict(kernel_size=3), 'pixel_shuffle': dict(upsample_kernel=3)}
"""What upsamplers need besides their names."""
COMPILED = f'{OPERATOR}, plain PyTorch, torch.compile'
BY_STEPS = f"{OPERATOR}, step by step as mmcv's CARAFE"


def published(args: argparse.Namespace) -> Iterator[dict]:
    """One row for each layer and form of the operator, precision and direction."""
    precisions = [(torch.float32, False), (torch.float16, False), (torch.bfloat16, False)]
    if torch.device(args.device).type == 'cuda':
        precisions.insert(1, (torch.float32, True))
    for dtype, tf32 in precisions:
        for backward in (False, True):
            args.dtype, args.backward = dtype, backward
            with _tf32(tf32):
                yield from _rows(args, tf32)


def _rows(args: argparse.Namespace, tf32: bool) -> Iterator[dict]:
    functions, failed = _subjects(args), {}
    for name, function in list(functions.items()):
        try:
            seconds(function, args.device)
        except Exception as error:  # what this device or release of torch lacks
            failed[name] = str(error).strip().partition('\n')[0]
            del functions[name]
    times = measure(functions, args)
    for name in [*functions, *failed]:
        row = dict(
            subject=name,
            dtype=str(args.dtype).removeprefix('torch.'),
            tf32=tf32,
            backward=args.backward,
            milliseconds=None,
            extra_bytes=None,
            of_bandwidth=None,
            published_milliseconds=None,
            failed=failed.get(name),
        )
        if name in functions:
            elapsed = statistics.median(times[name])
            row['milliseconds'] = 1e3 * elapsed
            row['extra_bytes'] = peak_memory(functions[name], args.device)
            if name.startswith(OPERATOR):
                moved = bytes_moved(args, args.shape)
                row['of_bandwidth'] = moved / elapsed / args.bytes_per_second
        if args.dtype == torch.float32 and not args.backward:
            row['published_milliseconds'] = PUBLISHED.get(name)
        yield row


@contextmanager
def _tf32(allowed: bool) -> Iterator[None]:
    """Whether float32 convolutions and products may round to TF32."""
    settings = torch.backends.cudnn, torch.backends.cuda.matmul
    before = [x.allow_tf32 for x in settings]
    for x in settings:
        x.allow_tf32 = allowed
    try:
        yield
    finally:
        for x, value in zip(settings, before, strict=True):
            x.allow_tf32 = value


def operands(args: argparse.Namespace) -> dict[str, Tensor]:
    """Those of the operator, by name."""
    h, w = args.shape
    H, W = -(-h // 2), -(-w // 2)
    shapes = dict(
        de=(args.channels, H, W),
        logits=(25, h, w),
        logits_de=(25, H, W),
        gate=(1, H, W),
        en=(args.channels, h, w),
    )
    like = dict(device=args.device, dtype=args.dtype)
    torch.manual_seed(0)
    form = torch.channels_last if args.channels_last else torch.contiguous_format
    return {
        name: torch.randn(args.batch, *shape, **like)
        .contiguous(memory_format=form)
        .requires_grad_(args.backward)
        for name, shape in shapes.items()
    }


def by_steps(de: Tensor, logits: Tensor, *, logits_de: Tensor, gate: Tensor, en: Tensor) -> Tensor:
    """The operator as mmcv's CARAFE goes about it: softmax, transposes to channels last, the
    kernel, a transpose back, and the gate."""
    size = en.shape[2:]
    kernels = (logits + nearest_up(logits_de, size)).softmax(1)
    de, kernels = (x.contiguous(memory_format=torch.channels_last) for x in (de, kernels))
    y = reassemble(de, kernels).contiguous()
    opened = nearest_up(gate, size).sigmoid()
    return opened * en + (1 - opened) * y


def _subjects(args: argparse.Namespace) -> dict[str, Callable]:
    """What is measured, by name; each runs once when called."""
    inputs = operands(args)
    en, de = inputs['en'], inputs['de']
    found = {}
    for name in sorted(UPSAMPLERS):
        cfg = dict(type=name, **NEEDED.get(name, {}))
        up = build_upsampler(cfg, args.channels, args.channels).to(args.device, args.dtype)
        found[name] = (lambda up=up: up(en, de)), [en, de, *up.parameters()]

    def plain(de, logits, logits_de, gate, en):
        return decomposition.forward(de, logits, logits_de, gate, en, 2, True)

    compiled = torch.compile(plain, dynamic=False)
    forms = {
        f'{OPERATOR}, {backend}': on_backend(backend, lambda: gated_reassemble(**inputs))
        for backend in available_backends(en, de)
    }
    forms[COMPILED] = lambda: compiled(*inputs.values())
    forms[BY_STEPS] = lambda: by_steps(**inputs)
    found |= {name: (form, list(inputs.values())) for name, form in forms.items()}
    if not args.backward:
        return {name: torch.no_grad()(function) for name, (function, _) in found.items()}
    return {name: with_backward(function, needed) for name, (function, needed) in found.items()}


def show(report: dict) -> None:
    """The report as plain text, which needs no other package."""
    print(
        f'{report["hardware"]} ({report["device"]}), torch {report["torch"]}; '
        f'en {"x".join(map(str, report["en"]))}, de {"x".join(map(str, report["de"]))}; '
        f'copies {report["bytes_per_second"] / 1e9:.0f} GB/s.\n'
        'ms: median after warm-up, synchronised. MiB: the most that is taken at once beside '
        'inputs and results.\ncopies: how much of the bandwidth of a copy is reached. published: '
        "DySample's figure 1, forward, float32, another GPU."
    )
    last = None
    for row in report['rows']:
        run = row['dtype'], row['tf32'], row['backward']
        if run != last:
            last = run
            what = 'forward + backward' if row['backward'] else 'forward'
            tf32 = ', TF32 convolutions' if row['tf32'] else ''
            print(f'\n{row["dtype"]}{tf32}, {what}')
            print(f'{"":48}{"ms":>10}{"MiB":>10}{"copies":>10}{"published":>12}')
        if row['failed']:
            print(f'{row["subject"]:48}  {row["failed"][:90]}')
            continue
        memory, share = row['extra_bytes'], row['of_bandwidth']
        print(
            f'{row["subject"]:48}{row["milliseconds"]:10.3f}'
            f'{"" if memory is None else format(memory / 2**20, ".1f"):>10}'
            f'{"" if share is None else format(share, ".2f"):>10}'
            f'{row["published_milliseconds"] or "":>12}'
        )


def tune(args: argparse.Namespace) -> Iterator[dict]:
    """Time every tile of the table on this GPU: a row each, the first of a kernel is the best."""
    args.backward = False
    capability = torch.cuda.get_device_capability(args.device)
    for layout in tiles.LAYOUTS:
        for args.dtype in (torch.float32, torch.bfloat16):
            args.channels_last = layout == 'channels_last'
            problem = Problem(*operands(args).values(), 2, True)
            for kernel in report.KERNELS:
                key = kernel, layout, args.dtype.itemsize
                found = [
                    dict(key=list(key), tile=tile, seconds=_time_of(kernel, tile, problem, args))
                    for tile in tiles.candidates(*key, capability)
                ]
                yield from sorted(found, key=lambda row: row['seconds'])


def _time_of(kernel: str, tile: tiles.Tile, problem: Problem, args: argparse.Namespace) -> float:
    """Seconds that a kernel takes with a tile: the median after warm-up."""

    def choose(name: str, *key) -> tiles.Tile:
        return tile if name == kernel else tiles.CANDIDATES[name, *key][0]

    count = torch.cuda.get_device_properties(args.device).multi_processor_count
    _, forward = launch.forward_call(problem, choose, count)
    grad = torch.randn_like(problem.en)
    _, calls, _ = launch.backward_calls(problem, grad, [True] * 5, choose)
    call = next(x for x in (forward, *calls) if x.name == kernel)
    times = [
        seconds(lambda: triton.run(call, problem), args.device) for _ in range(args.repeats + 3)
    ]
    return statistics.median(times[3:])


def show_entries(rows: list[dict], arch: str) -> None:
    """What `CHOSEN` shall have for an architecture, by the rows of `tune`."""
    print(f'# in CHOSEN of fade_mm/ops/backend/triton/tiles.py, for {arch!r}:')
    seen = set()
    for row in rows:
        key = tuple(row['key'])
        if key not in seen:
            seen.add(key)
            print(f'{key!r}: {row["tile"]!r},  # {1e6 * row["seconds"]:.0f} us')
