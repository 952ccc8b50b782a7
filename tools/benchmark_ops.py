"""Time and memory of FADE, of its stages and of other upsamplers, on every backend at hand.

Two yardsticks are measured beside them: the unfold + einsum formulation of the same layer, and
what the machine can do at all (memory bandwidth and multiply-adds per second). All subjects take
turns in random order, so that a disturbance meets them alike; times are medians, and ratios are
medians of the ratios within a turn. Memory that is freed stays with the process, as in
tools/train.py and as GPU allocators do it (--return-memory shows the difference).

Three other reports: the published latency of upsamplers measured again (--published), what the
compiler makes of the GPU kernels (--compile-for), and which of their tiles is fastest (--tune).
"""

import argparse
import json
import os
import platform
import random
import re
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

warnings.filterwarnings('ignore')

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fade_mm.memory import keep_freed_memory, peak_memory
from fade_mm.ops import gated_reassemble, use_backend
from fade_mm.ops.backend import available_backends, cpu
from fade_mm.ops.geometry import nearest_up
from fade_mm.upsamplers import CARAFE, FADE, FADELite, FreqFusion
from fade_mm.upsamplers.by_group import reassemble_by_group

UNFOLDED = 'FADE by unfold + einsum'
CONVOLUTIONS = "FADE's convolutions"
OPERATOR = 'gated_reassemble'
BY_GROUP = ' by group'
LEGEND = (
    'Points are those of the output. Memory is the most that is taken at once beside inputs and '
    'results, also as a multiple of what the logits take (the kernels before the softmax).'
)
MiB = 2**20


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog='for example:\n  %(prog)s --backward\n  %(prog)s --sizes 32 64 128 --plot cost.png\n'
        '  %(prog)s --published --json FILE\n  %(prog)s --compile-for sm_80 sm_90 sm_100',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        '--device', help='default: cpu; with --published and --tune, a GPU if there is one'
    )
    parser.add_argument('--dtype', default='float32', choices=['float32', 'bfloat16', 'float16'])
    parser.add_argument('--channels', type=int, default=256)
    parser.add_argument(
        '--groups', type=int, default=8, help='of channels with kernels of their own; 1: no rows'
    )
    parser.add_argument('--batch', type=int, default=1)
    parser.add_argument(
        '--shape',
        type=int,
        nargs=2,
        metavar=('h', 'w'),
        help='size of en; default: 128 128, with --published and --tune 240 240',
    )
    parser.add_argument('--channels-last', action='store_true')
    parser.add_argument('--backward', action='store_true', help='forward and backward together')
    parser.add_argument('--repeats', type=int, default=21, help='turns')
    parser.add_argument('--threads', type=int, help="default: PyTorch's")
    parser.add_argument('--sizes', type=int, nargs='+', help='sides of en instead of --shape')
    parser.add_argument('--plot', type=Path, help='with --sizes: a picture of cost against size')
    parser.add_argument(
        '--return-memory', action='store_true', help='give freed memory back, as malloc does'
    )
    parser.add_argument(
        '--json', nargs='?', const='-', metavar='FILE', help='JSON on standard output or in a file'
    )
    other = parser.add_mutually_exclusive_group()
    other.add_argument(
        '--published',
        action='store_true',
        help="DySample's set-up, every upsampler, all precisions",
    )
    other.add_argument(
        '--compile-for',
        nargs='+',
        metavar='sm_NN',
        help='registers, spills, warps and widths of loads of the Triton kernels; needs no GPU',
    )
    other.add_argument(
        '--tune', action='store_true', help="time all tiles on a GPU and print the table's entries"
    )
    args = parser.parse_args(argv)
    if args.plot and not args.sizes:
        parser.error('--plot needs --sizes')
    is_set_up = args.published or args.tune
    args.shape = args.shape or ([240, 240] if is_set_up else [128, 128])
    if args.device is None:
        args.device = 'cuda' if is_set_up and torch.cuda.is_available() else 'cpu'
    if args.tune and torch.device(args.device).type != 'cuda':
        parser.error(f'--tune needs a GPU that Triton compiles for, got --device {args.device}')
    for arch in args.compile_for or ():
        if not re.fullmatch(r'sm_\d{2,3}', arch):
            parser.error(f'--compile-for takes architectures as sm_90, got {arch}')
    numbers = args.channels, args.groups, args.batch, args.repeats
    if min(*numbers, *args.shape, *(args.sizes or [1])) < 1:
        parser.error('sizes and numbers of repeats must be at least 1')
    if args.channels % args.groups:
        parser.error(
            f'--groups must divide --channels, got {args.groups} and {args.channels}; '
            '--groups 1 leaves its rows out'
        )
    try:
        torch.empty(1, device=args.device)
    except (RuntimeError, AssertionError) as error:
        parser.error(f'--device {args.device}: {error}')
    args.dtype = getattr(torch, args.dtype)
    return args


def unfolded(
    de: Tensor,
    logits: Tensor,
    *,
    logits_de: Tensor,
    gate: Tensor,
    en: Tensor,
) -> Tensor:
    """The operator as it is commonly written: unfold, repeat to the output's size, einsum."""
    size, taps = en.shape[2:], logits.shape[1]
    kernel_size = round(taps**0.5)
    kernels = (logits + nearest_up(logits_de, size)).softmax(1)
    windows = F.unfold(de, kernel_size, padding=kernel_size // 2).unflatten(2, de.shape[2:])
    windows = nearest_up(windows, size).unflatten(1, (-1, taps))
    y = torch.einsum('ncthw,nthw->nchw', windows, kernels)
    opened = nearest_up(gate, size).sigmoid()
    return opened * en + (1 - opened) * y


def subjects(args: argparse.Namespace, shape: tuple[int, int]) -> dict[tuple[str, str], Callable]:
    """What is measured, by name and backend; each runs once when called."""
    torch.manual_seed(0)
    last = torch.channels_last if args.channels_last else torch.contiguous_format
    like = dict(device=args.device, dtype=args.dtype)

    def feature(channels: int, height: int, width: int) -> Tensor:
        x = torch.randn(args.batch, channels, height, width, **like)
        return x.contiguous(memory_format=last).requires_grad_(args.backward)

    low = [-(-a // 2) for a in shape]
    en, de = feature(args.channels, *shape), feature(args.channels, *low)
    fade, lite = (cls(args.channels).to(**like, memory_format=last) for cls in (FADE, FADELite))
    carafe, freqfusion = (
        cls(args.channels).to(**like, memory_format=last) for cls in (CARAFE, FreqFusion)
    )
    layers = [fade, lite, carafe, freqfusion]
    generator = fade.ker_generator
    embedded = feature(generator.compressor_en.out_channels, *shape)
    embedded_de = feature(generator.compressor_de.out_channels, *low)
    taps = generator.content_encoder.out_channels
    operands = dict(
        de=de,
        logits=feature(taps, *shape),
        logits_de=feature(taps, *low),
        gate=feature(1, *low),
        en=en,
    )

    def convolutions(layer: nn.Module) -> tuple[Tensor, ...]:
        generator = layer.ker_generator
        return (
            generator.content_encoder(generator.compressor_en(en)),
            generator.content_encoder(generator.compressor_de(de)),
            layer.gate_generator.conv(de),
        )

    def fade_unfolded() -> Tensor:
        logits, logits_de, gate = convolutions(fade)
        return unfolded(de, logits, logits_de=logits_de, gate=gate, en=en)

    available = available_backends(en, de)
    automatic, *others = available
    found = {
        ('FADE', automatic): lambda: fade(en, de),
        ('FADE-Lite', automatic): lambda: lite(en, de),
        ('CARAFE', automatic): lambda: carafe(de),
        ('FreqFusion', automatic): lambda: freqfusion.pair(en, de),
        ('bilinear', ''): lambda: F.interpolate(de, shape, mode='bilinear', align_corners=False),
        (CONVOLUTIONS, ''): lambda: convolutions(fade),
        ("FADE-Lite's convolutions", ''): lambda: convolutions(lite),
        ('  compressor, en', ''): lambda: generator.compressor_en(en),
        ('  content encoder, en', ''): lambda: generator.content_encoder(embedded),
        ('  compressor, de', ''): lambda: generator.compressor_de(de),
        ('  content encoder, de', ''): lambda: generator.content_encoder(embedded_de),
        ('  gate, de', ''): lambda: fade.gate_generator.conv(de),
    }
    for name in available:
        found[OPERATOR, name] = on_backend(name, lambda: gated_reassemble(**operands))
    for name in others:
        found['FADE', name] = on_backend(name, lambda: fade(en, de))
    inputs = [embedded, embedded_de, *operands.values()]
    if args.groups > 1:
        grouped = FADE(args.channels, up_group=args.groups).to(**like, memory_format=last)
        layers.append(grouped)
        more = dict(
            operands,
            logits=feature(args.groups * taps, *shape),
            logits_de=feature(args.groups * taps, *low),
        )
        inputs += [more['logits'], more['logits_de']]
        found['FADE' + BY_GROUP, automatic] = lambda: grouped(en, de)
        found[CONVOLUTIONS + BY_GROUP, ''] = lambda: convolutions(grouped)
        for name in available:
            found[OPERATOR + BY_GROUP, name] = on_backend(
                name, lambda: reassemble_by_group(up_group=args.groups, **more)
            )
    if not args.sizes:  # takes minutes and gigabytes at large sizes
        found[UNFOLDED, ''] = fade_unfolded
    if not args.backward:
        return {key: torch.no_grad()(function) for key, function in found.items()}
    inputs += [p for layer in layers for p in layer.parameters()]
    return {key: with_backward(function, inputs) for key, function in found.items()}


def on_backend(name: str, function: Callable) -> Callable:
    """The function, its operator computed by one backend."""

    def run():
        with use_backend(name):
            return function()

    return run


def with_backward(function: Callable, inputs: list[Tensor]) -> Callable:
    """The function, and the gradient of whatever it depends on."""
    grads = None

    def run():
        nonlocal grads
        out = function()
        out = out if isinstance(out, tuple) else (out,)
        grads = grads or [torch.ones_like(x) for x in out]
        return out, torch.autograd.grad(out, inputs, grads, allow_unused=True)

    return run


def seconds(function: Callable, device: str) -> float:
    """The time of one call."""
    synchronize(device)
    start = time.perf_counter()
    function()
    synchronize(device)
    return time.perf_counter() - start


def synchronize(device: str) -> None:
    """Wait for the device."""
    if device != 'cpu':
        torch.accelerator.synchronize()


def measure(functions: dict, args: argparse.Namespace) -> dict:
    """Seconds of each subject in each turn, after one turn that does not count."""
    times = {key: [] for key in functions}
    shuffle = random.Random(0).sample  # or one subject would always find what another one left
    for turn in range(args.repeats + 1):
        for key in shuffle(list(functions), len(functions)):
            elapsed = seconds(functions[key], args.device)
            if turn:
                times[key].append(elapsed)
    return times


def machine(args: argparse.Namespace) -> dict[str, float]:
    """What the machine can do: bytes per second of a large copy, multiply-adds of a product."""
    source = torch.ones(64 * MiB, device=args.device)
    target = torch.empty_like(source)
    a = torch.randn(2048, 2048, device=args.device, dtype=args.dtype)
    copies, products = [], []
    for _ in range(8):
        copies.append(seconds(lambda: target.copy_(source), args.device))
        products.append(seconds(lambda: a @ a, args.device))
    return dict(
        bytes_per_second=2 * source.nbytes / statistics.median(copies[1:]),
        multiply_adds_per_second=2048**3 / statistics.median(products[1:]),
    )


def bytes_moved(args: argparse.Namespace, shape: tuple[int, int]) -> int:
    """Bytes that `gated_reassemble` reads and writes at least."""
    low = [-(-a // 2) for a in shape]
    points, points_de = (args.batch * a[0] * a[1] for a in (shape, low))
    read = points * (25 + args.channels) + points_de * (25 + 1 + args.channels)
    written = points * args.channels
    if args.backward:  # reads all again and the output's gradient, and writes all gradients
        read, written = 2 * read + written, written + read
    return (read + written) * torch.empty(0, dtype=args.dtype).element_size()


def roofline(args: argparse.Namespace, shape: tuple[int, int], limits: dict) -> float:
    """Seconds that `gated_reassemble` takes at least: its arithmetic, or its memory traffic."""
    multiply_adds = args.batch * shape[0] * shape[1] * args.channels * 27
    if args.backward:
        multiply_adds += args.batch * shape[0] * shape[1] * args.channels * 53
    return max(
        bytes_moved(args, shape) / limits['bytes_per_second'],
        multiply_adds / limits['multiply_adds_per_second'],
    )


def rows(args: argparse.Namespace, shape: tuple[int, int]) -> list[dict]:
    """One row per subject: time, ratios and memory."""
    functions = subjects(args, shape)
    times = measure(functions, args)
    logits = args.batch * 25 * shape[0] * shape[1] * torch.empty(0, dtype=args.dtype).element_size()
    found = []
    for (name, backend), elapsed in times.items():
        memory = peak_memory(functions[name, backend], args.device)
        found.append(
            dict(
                subject=name,
                backend=backend,
                groups=args.groups if name.endswith(BY_GROUP) else 1,
                shape=list(shape),
                milliseconds=1e3 * statistics.median(elapsed),
                nanoseconds_per_point=1e9
                * statistics.median(elapsed)
                / (args.batch * shape[0] * shape[1]),
                of_convolutions=ratio(elapsed, times[CONVOLUTIONS, '']),
                of_one_group=ratio(
                    elapsed if name.endswith(BY_GROUP) else None,
                    times[name.removesuffix(BY_GROUP), backend],
                ),
                faster_than_unfolded=ratio(times.get((UNFOLDED, '')), elapsed),
                extra_bytes=memory,
                extra_of_logits=None if memory is None else memory / logits,
            )
        )
    return found


def ratio(numerator: list[float] | None, denominator: list[float]) -> float | None:
    """The median of the ratios within a turn."""
    if numerator is None:
        return None
    return statistics.median(a / b for a, b in zip(numerator, denominator, strict=True))


def show(args: argparse.Namespace, report: dict) -> None:
    """The report as tables."""
    from rich.console import Console
    from rich.table import Table

    console = Console(width=150)
    what = 'forward + backward' if args.backward else 'forward'
    limits = report['machine']
    console.print(
        f'{report["hardware"]}, torch {torch.__version__}, {what}, batch {args.batch}, '
        f'{args.channels} channels, {str(args.dtype).removeprefix("torch.")}'
        f'{", channels last" if args.channels_last else ""}; copies '
        f'{limits["bytes_per_second"] / 1e9:.1f} GB/s, multiplies and adds '
        f'{limits["multiply_adds_per_second"] / 1e9:.0f} G/s'
    )
    for shape in report['shapes']:
        table = Table(title=f'en {shape[0]}x{shape[1]}', caption=LEGEND, caption_justify='left')
        for column in ('', 'backend'):
            table.add_column(column, no_wrap=True)
        for column in (
            'groups',
            'ms',
            'ns a point',
            "time, FADE's\nconvolutions = 1",
            'time,\n1 group = 1',
            'times as fast as\nunfold + einsum',
            'memory,\nMiB',
            'memory,\nlogits = 1',
        ):
            table.add_column(column, justify='right')
        for row in (r for r in report['rows'] if r['shape'] == shape):
            cells = (
                ('groups', 'd'),
                ('milliseconds', '.2f'),
                ('nanoseconds_per_point', '.0f'),
                ('of_convolutions', '.2f'),
                ('of_one_group', '.2f'),
                ('faster_than_unfolded', '.1f'),
            )
            memory = row['extra_bytes']
            table.add_row(
                row['subject'],
                row['backend'],
                *('' if row[key] is None else format(row[key], spec) for key, spec in cells),
                '' if memory is None else f'{memory / MiB:.1f}',
                '' if memory is None else f'{row["extra_of_logits"]:.2f}',
            )
        console.print(table)
        bound = report['rooflines']['x'.join(map(str, shape))]
        console.print(f"{OPERATOR} by the machine's limits: at least {1e3 * bound:.2f} ms\n")


def plot(report: dict, file: Path) -> None:
    """Time per output point against the side of ``en``."""
    import matplotlib

    matplotlib.use('Agg')
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

    figure, axes = plt.subplots(figsize=(8, 4))
    lines = {}
    for row in report['rows']:
        if not row['subject'].startswith('  '):
            name = f'{row["subject"]} ({row["backend"]})' if row['backend'] else row['subject']
            lines.setdefault(name, []).append((row['shape'][0], row['nanoseconds_per_point']))
    for name, points in lines.items():
        axes.plot(*zip(*points, strict=True), marker='o', markersize=3, linewidth=1, label=name)
    axes.set(xscale='log', yscale='log', xlabel='side of en', ylabel='ns per output point')
    sides = sorted({shape[0] for shape in report['shapes']})
    axes.set_xticks(sides, [str(side) for side in sides])
    axes.yaxis.set(
        major_locator=LogLocator(subs=(1, 2, 5)),
        major_formatter=ScalarFormatter(),
        minor_formatter=NullFormatter(),
    )
    axes.xaxis.set_minor_locator(plt.NullLocator())
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc='center left', bbox_to_anchor=(1, 0.5))
    figure.tight_layout()
    figure.savefig(file, dpi=150)


def hardware(device: str) -> str:
    """The processor's name."""
    if torch.device(device).type == 'cuda':
        return torch.cuda.get_device_name(device)
    names = [
        line.split(':', 1)[1].strip()
        for line in Path('/proc/cpuinfo').read_text().splitlines()
        if line.startswith('model name')
    ]
    sets = cpu.instruction_sets()
    return f'{names[0] if names else platform.machine()}, {torch.get_num_threads()} threads, ' + (
        sets[0] if sets else 'no CPU kernel'
    )


def main(argv: list[str] | None = None) -> None:
    """Measure and print."""
    args = parse_args(argv)
    if args.compile_for:
        return compile_for(args)
    if args.threads:
        torch.set_num_threads(args.threads)
    if not args.return_memory:
        keep_freed_memory()
    if args.published:
        return published(args)
    if args.tune:
        return tune(args)
    if not args.json:
        import rich.console  # noqa: F401  (what is missing is said before time is spent)
    shapes = [[side, side] for side in args.sizes] if args.sizes else [list(args.shape)]
    limits = machine(args)
    report = dict(
        hardware=hardware(args.device),
        machine=limits,
        shapes=shapes,
        rows=[row for shape in shapes for row in rows(args, tuple(shape))],
        rooflines={'x'.join(map(str, s)): roofline(args, tuple(s), limits) for s in shapes},
    )
    if args.json:
        write_json(report, args.json)
    else:
        show(args, report)
    if args.plot:
        plot(report, args.plot)


def published(args: argparse.Namespace) -> None:
    """With ``--published``."""
    import benchmark_published

    args.dtype, args.backward = torch.float32, False
    args.bytes_per_second = machine(args)['bytes_per_second']
    h, w = args.shape
    report = dict(
        device=args.device,
        hardware=hardware(args.device),
        torch=torch.__version__,
        en=[args.batch, args.channels, h, w],
        de=[args.batch, args.channels, -(-h // 2), -(-w // 2)],
        channels_last=args.channels_last,
        bytes_per_second=args.bytes_per_second,
        rows=list(benchmark_published.published(args)),
    )
    if args.json:
        write_json(report, args.json)
    if args.json != '-':
        benchmark_published.show(report)


def tune(args: argparse.Namespace) -> None:
    """With ``--tune``."""
    import benchmark_published

    found = list(benchmark_published.tune(args))
    if args.json:
        write_json(found, args.json)
    if args.json != '-':
        major, minor = torch.cuda.get_device_capability(args.device)
        benchmark_published.show_entries(found, f'sm_{major}{minor}')


def compile_for(args: argparse.Namespace) -> None:
    """With ``--compile-for``."""
    os.environ.pop('TRITON_INTERPRET', None)  # which excludes compiling
    from fade_mm.ops.backend.triton import device_kernels, report

    if isinstance(device_kernels(), str):
        raise SystemExit(device_kernels())
    found = []
    if not args.json:
        import triton

        print(f'Triton {triton.__version__}; K 5, scale 2, 256 channels')
        columns = ('registers', 'spills', 'shared', 'warps', 'load', 'store')
        print(f'{"":58}' + ''.join(f'{x:>10}' for x in columns) + '  tile')
    for row in report.rows(args.compile_for):
        found.append(row)
        if not args.json:
            what = ' '.join(row[key] for key in ('arch', 'kernel', 'layout', 'dtype'))
            numbers = [x for x in row.values() if isinstance(x, int)]
            tile = ' '.join(f'{key} {value}' for key, value in row['tile'].items())
            print(f'{what:58}' + ''.join(f'{x:10}' for x in numbers) + f'  {tile}', flush=True)
    if args.json:
        write_json(found, args.json)


def write_json(report: dict | list, where: str) -> None:
    """To standard output, ``-``, or a file."""
    if where == '-':
        json.dump(report, sys.stdout, indent=1)
    else:
        Path(where).write_text(json.dumps(report, indent=1))


if __name__ == '__main__':
    main()
