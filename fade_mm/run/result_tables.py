"""Tables of runs (see `fade_mm.run.results`) in pages of Markdown.

A page says in a comment which runs a table shows and how, and the table follows:

    <!-- runs
    data: CamVid
    budget: 1500 iterations
    columns: {mIoU: mIoU, mBIoU: mBIoU}
    -->
    <!-- end -->

``columns`` are headings and names of scores, ``digits`` how many there are after the point (2, if
left out), ``unnamed`` are patterns of options that all rows share, so that none names them. All
else are fields of a run with a pattern that its value must match (``*`` stands for anything). A row
is an upsampler, in the order of their first runs, with one set of options. ``curves`` in place of
``runs`` shows the scores on the way, a column a step.
"""

import re
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from statistics import mean, stdev

import yaml

from fade_mm.errors import SetupError

from .results import FIELDS

_OPENING = re.compile(r'^<!-- (?:runs|curves)$', re.M)
_BLOCK = re.compile(
    r'^(<!-- (runs|curves)\n((?:(?!-->).)*)-->\n)(?:(?!<!--).)*(<!-- end -->)', re.M | re.S
)


def has_tables(page: str) -> bool:
    """Whether a page has tables of runs."""
    return bool(_OPENING.search(page))


def fill(page: str, runs: list[dict]) -> str:
    """A page with its tables made anew.

    Args:
        page: The text of the page.
        runs: The entries of all runs.

    Raises:
        SetupError: a table is not understood, or no run belongs to it.
    """
    if len(_OPENING.findall(page)) != len(_BLOCK.findall(page)):
        raise SetupError('a table of runs has no <!-- end -->, or another comment before it')

    def block(found: re.Match) -> str:
        opening, kind, definition, end = found.groups()
        # Blank lines, without which Markdown takes the table for a part of the comment.
        return f'{opening}\n{table(kind, definition, runs)}\n\n{end}'

    return _BLOCK.sub(block, page)


def table(kind: str, definition: str, runs: Iterable[dict]) -> str:
    """A table as Markdown.

    Args:
        kind: ``runs`` or ``curves``.
        definition: YAML, as described above.
        runs: The entries of all runs.

    Raises:
        SetupError: the definition is not understood, or no run belongs to the table.
    """
    where = yaml.safe_load(definition)
    if not isinstance(where, dict) or 'columns' not in where:
        raise SetupError(f'a table of runs needs columns, got {definition!r}')
    columns, digits = where.pop('columns'), where.pop('digits', 2)
    unnamed = where.pop('unnamed', [])
    chosen = select(runs, **where)
    if not chosen:
        raise SetupError(f'no run has {where}')
    make = _scores if kind == 'runs' else _curves
    header, rows = make(_by_upsampler(chosen, unnamed), columns, digits)
    rule = '|---' * len(header) + '|'
    header, *body = (f'| {" | ".join(cells)} |' for cells in [header, *rows])
    return '\n'.join([header, rule, *body])


def select(runs: Iterable[dict], **where: str) -> list[dict]:
    """The runs whose fields match patterns.

    Raises:
        SetupError: a run has no such field.
    """
    unknown = ', '.join(set(where) - set(FIELDS))
    if unknown:
        raise SetupError(f'{unknown} is no field of a run; there are {", ".join(FIELDS)}')
    return [
        run
        for run in runs
        if all(fnmatchcase(str(run[name]), str(pattern)) for name, pattern in where.items())
    ]


def score(run: dict, name: str) -> float | None:
    """A score of a run as it is published, mmdetection's in percent."""
    return _published(run['scores'], name)


def _published(scores: dict[str, float], name: str) -> float | None:
    if name not in scores:
        return None
    return scores[name] * (100 if name.startswith('coco') else 1)


def _by_upsampler(runs: list[dict], unnamed: list[str]) -> dict[str, list[dict]]:
    """Runs by the name of their row, which says what was overridden in the config, by seed."""
    rows = {}
    for run in runs:
        options = (
            f'{name}={value}'
            for name, value in run['options'].items()
            if not any(fnmatchcase(name, pattern) for pattern in unnamed)
        )
        rows.setdefault(', '.join([run['upsampler'], *options]), []).append(run)
    for members in rows.values():
        members.sort(key=lambda run: (run['seed'] is None, run['seed'] or 0))
    return rows


def _scores(rows: dict[str, list[dict]], columns: dict[str, str], digits: int):
    body = []
    for name, runs in rows.items():
        seeds = ', '.join(_or_unknown(run['seed'], str) for run in runs)
        cells = [summary([score(run, key) for run in runs], digits) for key in columns.values()]
        body.append([name, f'{len(runs)} ({seeds})', *cells])
    return ['upsampling', 'runs (seeds)', *columns], body


def summary(values: list[float | None], digits: int = 2) -> str:
    """The mean of some scores, with their sample standard deviation, and the scores themselves.

    Args:
        values: A score a run; ``None`` where it is not known.
        digits: Digits after the point. Default: 2.
    """

    def text(value: float) -> str:
        return f'{value:.{digits}f}'

    known = [value for value in values if value is not None]
    if len(known) < 2:
        return text(known[0]) if known else ''
    each = ', '.join(_or_unknown(value, text) for value in values)
    return f'{text(mean(known))} ± {text(stdev(known))} ({each})'


def _or_unknown(value: object, text: Callable[[object], str]) -> str:
    return '?' if value is None else text(value)


def _curves(rows: dict[str, list[dict]], columns: dict[str, str], digits: int):
    steps = sorted({step for runs in rows.values() for run in runs for step in run['curve']})
    body = []
    for name, runs in rows.items():
        if not any(run['curve'] for run in runs):
            continue
        cells = []
        for step in steps:
            at_step = [run['curve'][step] for run in runs if step in run['curve']]
            values = [[_published(x, key) for x in at_step] for key in columns.values()]
            cells.append(' / '.join(f'{mean(x):.{digits}f}' for x in values if x))
        body.append([name, *cells])
    return [f'{" / ".join(columns)} after', *(f'{step:,}' for step in steps)], body
