"""The papers' tables: our models' complexity, and the scores of your checkpoints, beside theirs.

GFLOPs are 10^9 multiply-adds, counted as the papers do: products (convolutions, linear layers,
attention, reassembly), and in the host models also batch norms, ReLUs and the biases of
convolutions; auxiliary heads are left out. Figures with a sign are differences from the first row
of the host model.
"""

import argparse
import contextlib
import json
import sys
import warnings
from dataclasses import dataclass, field
from pathlib import Path

warnings.filterwarnings('ignore')

from rich.console import Console
from rich.table import Table

from fade_mm import run
from fade_mm.papers import tables
from fade_mm.papers.tables import Row

TABLES = (
    'complexity',
    'segmentation',
    'detection',
    'instance',
    'panoptic',
    'matting',
    'depth',
    'ablation',
)
PUBLISHED_ONLY = ('toy',)


def parse_args() -> argparse.Namespace:
    parser = run.ToolParser(
        __doc__,
        'complexity --format markdown',
        'segmentation --checkpoints work_dirs',
    )
    parser.add_argument(
        'table',
        nargs='?',
        default='complexity',
        choices=[*TABLES, 'all', *PUBLISHED_ONLY],
        help='default: complexity; all: the eight before; the last one is published figures alone',
    )
    parser.add_argument('--format', choices=['text', 'markdown', 'json'], default='text')
    parser.add_argument(
        '--checkpoints',
        type=Path,
        metavar='DIR',
        help="where the rows' folders are, as tools/train.py makes them in work_dirs: each is "
        'named after its config and holds a checkpoint',
    )
    return parser.parse_args()


def say(line: str) -> None:
    """Say on standard error what is being done."""
    print(line, file=sys.stderr, flush=True)


@dataclass
class Report:
    """A table as text, with numbered notes below it."""

    title: str
    header: list[str]
    rows: list[list[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, cells: list[str], *notes: str) -> None:
        """Add a row and what is to be known about it."""
        text = '. '.join(filter(None, notes))
        if text and text not in self.notes:
            self.notes.append(text)
        self.rows.append([*cells, str(self.notes.index(text) + 1) if text else ''])

    def print_text(self, console: Console) -> None:
        """Print the table with rich."""
        table = Table(*self.header, 'note', title=self.title)
        for cells in self.rows:
            table.add_row(*cells)
        console.print(table)
        for number, text in enumerate(self.notes, 1):
            console.print(f'{number}. {text}', soft_wrap=True)
        console.print()

    def print_markdown(self) -> None:
        """Print the table in Markdown."""
        header = [*self.header, 'note']
        print(f'## {self.title.capitalize()}\n')
        for cells in (header, ['---'] * len(header), *self.rows):
            print(f'| {" | ".join(cells)} |')
        print()
        for number, text in enumerate(self.notes, 1):
            print(f'{number}. {text}')
        print()


def giga(count: int) -> str:
    """A count in 10^9."""
    return f'{count / 1e9:.3f}'


def report_complexity(rows: list[Row]) -> Report:
    """Our counts, as totals and in the published terms, beside the published ones."""
    counts = [
        column
        for what in ('parameters', 'GFLOPs')
        for column in (what, 'in short', 'published', 'off by')
    ]
    report = Report('complexity', ['host model, input', 'upsampler', *counts, 'source'])
    bases = tables.bases(rows)
    for row in rows:
        base = bases[row.host]
        host = f'{row.host}, {row.shape[0]}x{row.shape[1]}' if row is base else ''
        cells = []
        for total, ours, of_base, published, usual in (
            ('{:,}'.format, row.params, base.params, row.published_params, '0.00M'),
            (giga, row.flops, base.flops, row.published_gflops, '0.00'),
        ):
            if ours is None or of_base is None:
                cells += ['', '', published or '', '']
                continue
            like = published or (usual if row is base else f'+{usual}')
            printed = tables.as_printed(ours - of_base if like.startswith('+') else ours, like)
            cells += [total(ours), printed, published or '', tables.off_by(printed, published)]
        reason = row.uncounted or base.uncounted
        report.add([host, row.upsampler, *cells, row.source], reason or row.differs, row.note)
    return report


def report_scores(table: str, rows: list[Row]) -> Report:
    """Our scores beside the published ones."""
    metrics = list(dict.fromkeys(name for row in rows for name in row.published_metrics))
    columns = [f'{name}, {whose}' for name in metrics for whose in ('ours', 'published')]
    digits = {name: tables.digits(rows, name) for name in metrics}
    report = Report(table, ['host model', 'upsampler', *columns, 'source'])
    previous = None
    for row in rows:
        scores = []
        for name in metrics:
            ours = (row.metrics or {}).get(name)
            published = row.published_metrics.get(name, '')
            scores += ['' if ours is None else f'{ours:.{digits[name]}f}', published]
        host = '' if row.host == previous else row.host
        report.add([host, row.upsampler, *scores, row.source], row.remark, row.note)
        previous = row.host
    return report


def main() -> None:
    args = parse_args()
    if args.checkpoints and not args.checkpoints.is_dir():
        raise run.SetupError(f'--checkpoints: there is no folder {args.checkpoints}')
    rows = tables.read_rows()
    names = TABLES if args.table == 'all' else (args.table,)
    wanted = {name: tables.select(rows, name) for name in names}
    every = [row for row in rows if any(row in members for members in wanted.values())]
    scored = [row for row in every if row.table in wanted]
    if args.checkpoints:
        folders = [args.checkpoints / row.stem for row in scored if row.config and row.metric_keys]
        if not folders:
            say(f'--checkpoints: {args.table} evaluates none')
        elif not any(folder.is_dir() for folder in folders):
            example = folders[-1].name
            say(f'--checkpoints: {args.checkpoints} has no folder of a row, e.g. {example}')
    with contextlib.redirect_stdout(sys.stderr):  # mmengine logs there
        if args.format == 'json' or 'complexity' in wanted:  # other tables have no counts
            tables.count(every, say)
        tables.score(scored, args.checkpoints, say)
    if args.format == 'json':
        print(json.dumps([r.as_json(name) for name, rs in wanted.items() for r in rs], indent=1))
        return
    console = Console(width=None if sys.stdout.isatty() else 1000, markup=False)
    for name, members in wanted.items():
        is_complexity = name == 'complexity'
        report = report_complexity(members) if is_complexity else report_scores(name, members)
        report.print_markdown() if args.format == 'markdown' else report.print_text(console)


if __name__ == '__main__':
    run.run_tool(main)
