"""Time of a training step: of each config, and of each backend of the operator where it is used.

Every model takes steps on one batch of its own training data, all in turns; times are medians, and
ratios to the first row are medians of the ratios within a turn. Freed memory stays with the
process, as in tools/train.py (--return-memory shows the difference). Memory is the most that a
step takes at once beyond the model and its optimizer: features, gradients, what is in between.

    python tools/benchmark_train.py configs/segformer/segformer_mit-b0_{bilinear,fade}_*camvid*.py
"""

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

warnings.filterwarnings('ignore')

import torch
from mmengine.logging import MMLogger
from mmengine.optim import build_optim_wrapper
from mmengine.runner import Runner
from rich.console import Console
from rich.table import Table

from fade_mm import run
from fade_mm.hosts.base import in_scope_of
from fade_mm.memory import peak_memory
from fade_mm.ops import use_backend
from fade_mm.ops.backend import available_backends
from fade_mm.upsamplers import named_upsamplers


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = run.ToolParser(__doc__)
    parser.add_argument('configs', nargs='+', help='their data must be where they say')
    parser.add_argument('--repeats', type=int, default=11, help='turns')
    parser.add_argument(
        '--return-memory', action='store_true', help='give freed memory back, as malloc does'
    )
    args = parser.parse_args()
    if args.repeats < 1:
        parser.error(f'--repeats must be at least 1, got {args.repeats}')
    return args


def training_step(file: str) -> tuple[Callable, bool]:
    """A function that takes a step of a config's training, and whether it upsamples with us."""
    cfg = run.load_config(file, {'train_dataloader.num_workers': 0})
    run.check_loops(cfg, 'train')
    torch.manual_seed(0)
    model = run.build_model(cfg).train()
    with in_scope_of(cfg):
        optim_wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
        batch = next(iter(Runner.build_dataloader(cfg.train_dataloader, seed=0)))
    ours = any(named_upsamplers(model))

    def step():
        with in_scope_of(cfg):
            model.train_step(batch, optim_wrapper)

    return step, ours


def main() -> None:
    """Measure and print."""
    args = parse_args()
    if not args.return_memory:
        run.keep_freed_memory()
    MMLogger.get_current_instance().setLevel('WARNING')
    subjects = {}
    for file in args.configs:
        step, ours = training_step(file)
        for backend in available_backends(torch.empty(1)) if ours else ['']:
            subjects[Path(file).stem, backend] = step

    times = {key: [] for key in subjects}
    for turn in range(args.repeats + 1):
        for (name, backend), step in subjects.items():
            with use_backend(backend) if backend else nullcontext():
                start = time.perf_counter()
                step()
            if turn:
                times[name, backend].append(time.perf_counter() - start)

    memory = {}
    for (name, backend), step in subjects.items():
        with use_backend(backend) if backend else nullcontext():
            memory[name, backend] = peak_memory(step)
    table = Table(title=f'{torch.get_num_threads()} threads, torch {torch.__version__}')
    for column in ('config', 'backend'):
        table.add_column(column)
    for column in ('s a step', 'the first = 1', 'MiB a step', 'the first = 1'):
        table.add_column(column, justify='right')
    first = next(iter(times.values()))
    for (name, backend), elapsed in times.items():
        ratio = statistics.median(a / b for a, b in zip(elapsed, first, strict=True))
        most, of_first = memory[name, backend], next(iter(memory.values()))
        table.add_row(
            name,
            backend,
            f'{statistics.median(elapsed):.3f}',
            f'{ratio:.2f}',
            '' if most is None else f'{most / 2**20:.0f}',
            '' if most is None else f'{most / of_first:.2f}',
        )
    Console(width=120).print(table)


if __name__ == '__main__':
    run.run_tool(main)
