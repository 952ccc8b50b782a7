"""Time of models in ONNX Runtime, beside each other, and which of its operators take it.

Each config's model is exported as tools/export_onnx.py does it, with weights as they start, and
computes on the CPU, all in turns. Times are medians; ratios to the first row are medians of the
ratios within a turn. With one thread they are the processor's times, which leave out what other
programs do meanwhile; with more, the clock's. The times of operators are the profiler's, by the
clock, in as many runs of their own: the least of each node, added up by kind.
"""

import argparse
import json
import statistics
import tempfile
import time
import warnings
from collections import defaultdict
from pathlib import Path

warnings.filterwarnings('ignore')

import torch
from rich.console import Console
from rich.table import Table

from fade_mm import run
from fade_mm.errors import counted
from fade_mm.hosts import host_of
from fade_mm.hosts.traced import Exported
from fade_mm.run import export
from fade_mm.run.kinds import table_of_kinds


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = run.ToolParser(
        __doc__, 'configs/segformer/segformer_mit-b0_{bilinear,fade}_1xb4-1500_camvid-256x256.py'
    )
    parser.add_argument('configs', nargs='+', help='models that tools/export_onnx.py can export')
    parser.add_argument(
        '--shape',
        nargs=2,
        type=int,
        default=(512, 512),
        metavar=('H', 'W'),
        help='size of the image (default: 512 512)',
    )
    parser.add_argument('--repeats', type=int, default=15, help='turns (default: %(default)s)')
    parser.add_argument('--threads', type=int, default=1, help='default: %(default)s')
    parser.add_cfg_options()
    args = parser.parse_args()
    if min(args.repeats, args.threads, *args.shape) < 1:
        parser.error('--repeats, --threads and --shape must be at least 1')
    return args


def exported_model(file: str, options: dict | None) -> Exported:
    """The model of a config, with weights as they start."""
    cfg = run.load_config(file, options)
    torch.manual_seed(0)
    return host_of(cfg).exported(run.build_model(cfg))


def start_session(path: Path, threads: int, *, profiled: bool = False):
    """A session of ONNX Runtime's that computes a file."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.enable_profiling = profiled
    options.profile_file_prefix = str(path.with_suffix(''))
    return onnxruntime.InferenceSession(path, options, providers=['CPUExecutionProvider'])


def time_by_kind(path: Path, inputs: dict, threads: int, repeats: int) -> dict[str, float]:
    """Milliseconds of each kind of operator."""
    session = start_session(path, threads, profiled=True)
    for _ in range(repeats):
        session.run(None, inputs)
    times = defaultdict(list)
    for event in json.loads(Path(session.end_profiling()).read_text()):
        if event['name'].endswith('_kernel_time'):
            times[event['args']['op_name'], event['name']].append(event['dur'] / 1000)
    kinds = defaultdict(float)
    for (kind, _), found in times.items():
        kinds[kind] += min(found)
    return kinds


def print_times(times: dict[str, list[float]], title: str) -> None:
    """A row for each model."""
    table = Table('model', title=title)
    for column in ('ms', 'the first = 1'):
        table.add_column(column, justify='right')
    first = next(iter(times.values()))
    for name, found in times.items():
        ratio = statistics.median(a / b for a, b in zip(found, first, strict=True))
        table.add_row(name, f'{1000 * statistics.median(found):.1f}', f'{ratio:.2f}')
    Console(width=120).print(table)


def main() -> None:
    """Export, measure and print."""
    args = parse_args()
    export.check_onnx()
    export.silence_exporter()
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        files, inputs = {}, {}
        for file in args.configs:
            name = Path(file).stem
            exported = exported_model(file, args.cfg_options)
            files[name] = Path(folder, f'{name}.onnx')
            inputs[name] = exported.random_inputs(exported.fitting(args.shape))
            export.export_model(exported, files[name])
        sessions = {name: start_session(path, args.threads) for name, path in files.items()}
        clock = time.thread_time if args.threads == 1 else time.perf_counter
        times = {name: [] for name in files}
        for turn in range(1 + args.repeats):  # the first does not count
            for name, session in sessions.items():
                start = clock()
                session.run(None, inputs[name])
                if turn:
                    times[name].append(clock() - start)
        kinds = {
            name: time_by_kind(path, inputs[name], args.threads, args.repeats)
            for name, path in files.items()
        }
    size = 'x'.join(map(str, args.shape))
    version = onnxruntime.__version__
    print_times(times, f'{size}, {counted(args.threads, "thread")}, ONNX Runtime {version}')
    Console(width=120).print(table_of_kinds(kinds))


if __name__ == '__main__':
    run.run_tool(main)
