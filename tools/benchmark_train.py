"""Time of a training step: of each config, and of each backend of the operator where it is used.

Every model takes steps on one batch of its own training data, all in turns; times are medians, and
ratios to the first row are medians of the ratios within a turn. Freed memory stays with the
process, as in tools/train.py (--return-memory shows the difference). Memory is the most that a
step takes at once beyond the model and its optimizer: features, gradients, what is in between.
With --profile, a second table says which of PyTorch's operators take the time on a CPU: means.
"""

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
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
from fade_mm.run.kinds import table_of_kinds, time_by_operator
from fade_mm.upsamplers import named_upsamplers


def parse_args() -> argparse.Namespace:
    """The command line."""
    backends = available_backends(torch.empty(1))
    parser = run.ToolParser(
        __doc__, 'configs/segformer/segformer_mit-b0_{bilinear,fade}_1xb4-1500_camvid-256x256.py'
    )
    parser.add_argument('configs', nargs='+', help='their data must be where they say')
    parser.add_argument('--repeats', type=int, default=11, help='turns')
    parser.add_argument(
        '--backends',
        nargs='+',
        metavar='NAME',
        choices=backends,
        default=backends,
        help=f'of {", ".join(backends)} (default: all)',
    )
    parser.add_cfg_options('train_dataloader.batch_size=1')
    parser.add_argument(
        '--return-memory', action='store_true', help='give freed memory back, as malloc does'
    )
    parser.add_argument('--profile', action='store_true', help='also print times by operator')
    args = parser.parse_args()
    if args.repeats < 1:
        parser.error(f'--repeats must be at least 1, got {args.repeats}')
    return args


def training_step(file: str, options: dict | None) -> tuple[Callable, bool]:
    """A function that takes a step of a config's training, and whether it upsamples with us."""
    cfg = run.load_config(file, {'train_dataloader.num_workers': 0, **(options or {})})
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


def in_turns(measure: Callable, subjects: dict, turns: int) -> dict[tuple[str, str], list]:
    """What is measured of each subject in each turn."""
    found = {key: [] for key in subjects}
    for _ in range(turns):
        for (name, backend), step in subjects.items():
            with use_backend(backend) if backend else nullcontext():
                found[name, backend].append(measure(step))
    return found


def ratio(values: list[float], first: list[float]) -> float:
    """The median of the ratios within a turn."""
    return statistics.median(a / b for a, b in zip(values, first, strict=True))


def main() -> None:
    """Measure and print."""
    args = parse_args()
    if not args.return_memory:
        run.keep_freed_memory()
    MMLogger.get_current_instance().setLevel('WARNING')
    subjects = {}
    for file in args.configs:
        step, ours = training_step(file, args.cfg_options)
        for backend in args.backends if ours else ['']:
            subjects[Path(file).stem, backend] = step

    def seconds(step: Callable) -> float:
        start = time.perf_counter()
        step()
        return time.perf_counter() - start

    in_turns(seconds, subjects, 1)  # does not count
    times = in_turns(seconds, subjects, args.repeats)
    memory = in_turns(peak_memory, subjects, args.repeats)
    table = Table(title=f'{torch.get_num_threads()} threads, torch {torch.__version__}')
    for column in ('config', 'backend'):
        table.add_column(column)
    for column in ('s a step', 'the first = 1', 'MiB a step', 'the first = 1'):
        table.add_column(column, justify='right')
    first = next(iter(subjects))
    for key in subjects:
        elapsed, taken = times[key], memory[key]
        cells = [f'{statistics.median(elapsed):.3f}', f'{ratio(elapsed, times[first]):.2f}']
        if None not in taken:
            cells.append(f'{statistics.median(taken) / 2**20:.0f}')
            cells.append(f'{ratio(taken, memory[first]):.2f}')
        table.add_row(*key, *cells)
    Console(width=120).print(table)
    if args.profile:
        profiles = in_turns(partial(time_by_operator, calls=args.repeats), subjects, 1)
        by_subject = {' '.join(key).strip(): found[0] for key, found in profiles.items()}
        Console(width=120).print(table_of_kinds(by_subject))


if __name__ == '__main__':
    run.run_tool(main)
