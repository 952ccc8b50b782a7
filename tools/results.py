"""Keep docs/results.yml, the file of all runs, and the tables that the pages make of it."""

import argparse
import warnings
from pathlib import Path

warnings.filterwarnings('ignore', message='pkg_resources is deprecated')

from fade_mm import run
from fade_mm.run import result_tables, results

DOCS = Path(__file__).resolve().parents[1] / 'docs'
if not DOCS.is_dir():  # installed without them
    DOCS = Path('docs')


def parse_args() -> argparse.Namespace:
    parser = run.ToolParser(
        __doc__,
        'append work_dirs/NAME',
        'tables',
        'tables --check',
    )
    parser.add_argument(
        '--data', type=Path, default=DOCS / 'results.yml', help='default: docs/results.yml'
    )
    commands = parser.add_subparsers(dest='command', required=True)
    append = commands.add_parser('append', help='append runs')
    append.add_argument(
        'runs',
        nargs='+',
        type=Path,
        metavar='WORK_DIR',
        help="a run's folder, with result.yml or else test_result.yml in it; or such a file",
    )
    tables = commands.add_parser('tables', help='make the tables')
    tables.add_argument('pages', nargs='*', type=Path, help='default: docs/*.md')
    tables.add_argument('--check', action='store_true', help='write nothing, fail if they differ')
    return parser.parse_args()


def append(data: Path, left: Path) -> None:
    """Append what a run has left."""
    if left.is_dir():
        files = [left / name for name in ('result.yml', 'test_result.yml')]
        left = next((path for path in files if path.is_file()), files[0])
    results.append_run(data, left)
    print(f'appended: {left}')


def make_tables(pages: list[Path], runs: list[dict], only_check: bool) -> None:
    """Make the tables of pages, or say which of them are not those of the runs."""
    stale = {}
    for page in pages:
        text = page.read_text(encoding='utf-8')
        try:
            filled = result_tables.fill(text, runs)
        except run.SetupError as error:
            raise run.SetupError(f'{page}: {error}') from error
        if filled != text:
            stale[page] = filled
    if stale and only_check:
        names = ', '.join(map(str, stale))
        raise run.SetupError(f'{names}: not the tables of the runs; run tools/results.py tables')
    for page, text in stale.items():
        results.write(page, text)
        print(f'written: {page}')


def main() -> None:
    args = parse_args()
    if args.command == 'append':
        for left in args.runs:
            append(args.data, left)
    else:
        pages = args.pages or sorted(DOCS.glob('*.md'))
        make_tables(pages, results.read_runs(args.data), args.check)


if __name__ == '__main__':
    run.run_tool(main)
