"""The papers' tables: published figures beside our own counts and scores."""

import re
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

import yaml

from fade_mm import shipped
from fade_mm.analysis.complexity import HostCount, count_parameters, predicting_model
from fade_mm.errors import SetupError, debugging
from fade_mm.run import evaluate, load_config

DATA = Path(__file__).with_suffix('.yml')
ROOT = shipped.root()

_NOT_METRICS = ('upsampler', 'config', 'stock', 'source', 'params', 'gflops', 'differs', 'note')


@dataclass
class Row:
    """One row of one table; the published figures are as printed, our own are added later.

    Args:
        table: ``segmentation``, ``detection``, ...
        host: Name of the host model.
        upsampler: Name of the upsampler.
        config: Config of the row, or ``None`` where the host model or the upsampler is not here.
        shape: Height and width of the image that the GFLOPs are for.
        published_params, published_gflops: As printed, or ``None``.
        published_metrics: Names and scores, as printed.
        metric_keys: Names of the metrics, and the keys that the evaluation reports them under.
        source: Where it is published.
        differs: Why our count is not the published one.
        note: What else there is to know.
        params: Our number of parameters.
        flops: Our multiply-adds.
        uncounted: Why there are no counts of ours.
        metrics: Our scores.
        remark: Why there are no scores of ours.
    """

    table: str
    host: str
    upsampler: str
    config: str | None
    shape: tuple[int, int]
    published_params: str | None
    published_gflops: str | None
    published_metrics: dict[str, str]
    metric_keys: dict[str, str]
    source: str
    differs: str
    note: str
    params: int | None = None
    flops: int | None = None
    uncounted: str = ''
    metrics: dict[str, float] | None = None
    remark: str = ''

    @property
    def stem(self) -> str:
        """Name of the folder that `tools/train.py` makes for the row's config."""
        return Path(self.config).stem

    def as_json(self, table: str) -> dict:
        """The row as the tool prints it in JSON, in ``table``."""
        return {
            'table': table,
            'host': self.host,
            'upsampler': self.upsampler,
            'params': self.params,
            'gflops': None if self.flops is None else self.flops / 1e9,
            'published_params': self.published_params,
            'published_gflops': self.published_gflops,
            'metrics': self.metrics,
            'published_metrics': self.published_metrics or None,
            'source': self.source or None,
        }


def read_rows(path: Path = DATA) -> list[Row]:
    """The rows of a data file; by default, of the one beside this module."""
    content = yaml.load(path.read_text(), yaml.BaseLoader)  # figures stay as they are printed
    rows = []
    for host in content['hosts']:
        for entry in host['rows']:
            config = entry.get('stock')
            if 'config' in entry:
                config = str(ROOT / host['config'].format(entry['config']))
            rows.append(
                Row(
                    table=host['table'],
                    host=host['host'],
                    upsampler=entry['upsampler'],
                    config=config,
                    shape=tuple(int(n) for n in host.get('shape', ())),
                    published_params=entry.get('params'),
                    published_gflops=entry.get('gflops'),
                    published_metrics={k: v for k, v in entry.items() if k not in _NOT_METRICS},
                    metric_keys=host.get('metrics', {}),
                    source=_source(entry.get('source', ''), content['sources']),
                    differs=entry.get('differs', ''),
                    note=entry.get('note', ''),
                )
            )
    return rows


def _source(named: str | dict[str, str], sources: dict[str, str]) -> str:
    if isinstance(named, dict):
        return '; '.join(f'{kind}: {sources[name]}' for kind, name in named.items())
    return sources[named] if named else ''


def select(rows: list[Row], table: str) -> list[Row]:
    """The rows of a table; ``complexity`` has each host that is here, with all its upsamplers."""
    if table == 'complexity':
        hosts = list(bases(rows))
        here = [row for row in rows if row.config]
        return sorted(here, key=lambda row: hosts.index(row.host))
    return [row for row in rows if row.table == table]


def bases(rows: Iterable[Row]) -> dict[str, Row]:
    """The row of each host that its other rows are compared with: the first."""
    first = {}
    for row in rows:
        first.setdefault(row.host, row)
    return first


def count(rows: Iterable[Row], report: Callable[[str], None]) -> None:
    """Count the parameters and multiply-adds of the rows that have configs.

    Args:
        rows: Rows, in any order; the counts are added to them, or why there are none.
        report: Called with a line before each host, since counting takes seconds.
    """
    hosts = {}
    for row in rows:
        if row.config:
            hosts.setdefault((row.host, row.shape), []).append(row)
    for (host, shape), members in hosts.items():
        report(f'counting {host} ({len(members)} rows)')
        host_count = None
        for row in reversed(members):  # the first row may have no upsamplers, the last one has
            try:
                model = predicting_model(load_config(row.config))
            except SetupError as error:  # a library is not installed, the others' rows stand
                row.uncounted = _one_line(error)
                continue
            host_count = host_count or HostCount(model, shape)
            row.params, row.flops = count_parameters(model), host_count(model)


def score(rows: Iterable[Row], folder: Path | None, report: Callable[[str], None]) -> None:
    """Evaluate the checkpoints of the rows on their test sets, as ``tools/test.py`` does.

    Args:
        rows: The rows; scores are added to them, or a remark that says why there are none.
        folder: Where the rows' folders are, named after their configs, as ``tools/train.py`` leaves
            them in ``work_dirs``; None: nowhere.
        report: Called with a line before each evaluation.
    """
    # One for all: mmengine's visualizer goes on writing where the first evaluation was.
    with tempfile.TemporaryDirectory() as work_dir:
        for row in rows:
            _score(row, folder, report, work_dir)


def _score(row: Row, folder: Path | None, report: Callable[[str], None], work_dir: str) -> None:
    if not row.config:
        row.remark = 'the model is not here'
    elif not row.metric_keys:
        row.remark = 'no published metrics'
    elif folder is None or not (folder / row.stem).is_dir():
        row.remark = 'no checkpoint'
    else:
        try:
            config, checkpoint = find_run(folder / row.stem)
            report(f'evaluating {checkpoint}')
            row.metrics = scores(row, config or row.config, checkpoint, work_dir)
        except Exception as error:  # what the other rows took hours for must not be lost
            if debugging():
                raise
            known = isinstance(error, (SetupError, OSError))
            row.remark = ('' if known else f'{type(error).__name__}: ') + _one_line(error)
            report(row.remark)


def _one_line(error: Exception) -> str:
    return ' '.join(str(error).split())


def find_run(folder: Path) -> tuple[str | None, str]:
    """The config, if there is one, and the checkpoint that a training left in its work dir.

    The checkpoint is the best one where the run kept it, as the published scores are the best of a
    run's, else the last one, which is the newest where no run said so.

    Raises:
        SetupError: there is no checkpoint.
    """
    config = folder / f'{folder.name}.py'
    last = folder / 'last_checkpoint'
    checkpoint = _newest(folder.glob('best_*.pth'))
    if checkpoint is None and last.is_file():
        checkpoint = folder / Path(last.read_text().strip()).name  # the folder may have been moved
    elif checkpoint is None:
        checkpoint = _newest(folder.glob('*.pth'))
    if checkpoint is None or not checkpoint.is_file():
        raise SetupError(
            f'no checkpoint: {folder} has no *.pth, or not the one that its last_checkpoint names'
        )
    return str(config) if config.is_file() else None, str(checkpoint)


def _newest(paths: Iterable[Path]) -> Path | None:
    return max(paths, key=lambda path: path.stat().st_mtime, default=None)


def scores(row: Row, config: str, checkpoint: str, work_dir: str) -> dict[str, float]:
    """The metrics of a checkpoint under their published names, mmdetection's in percent.

    ``work_dir`` is another than the run's, where mmengine would overwrite the config.

    Raises:
        SetupError: something is missing or does not fit, or the evaluation has none of the metrics.
    """
    reported = evaluate(load_config(config, work_dir=work_dir), checkpoint)
    if not set(row.metric_keys.values()).intersection(reported):
        raise SetupError(
            f'the evaluation reports none of {", ".join(row.metric_keys.values())}, but '
            f'{", ".join(reported) or "nothing"} (mmdetection reports nothing where a model '
            'predicts nothing)'
        )
    return {
        name: float(reported[key]) * (100 if key.startswith('coco/') else 1)
        for name, key in row.metric_keys.items()
        if key in reported
    }


def digits(rows: Iterable[Row], metric: str) -> int:
    """How many digits after the point a metric is printed with: two, or more where it was.

    Args:
        rows: The rows of a table.
        metric: Its published name.
    """
    printed = [row.published_metrics.get(metric, '') for row in rows]
    return max(2, *(len(figure.partition('.')[2]) for figure in printed))


def as_printed(value: int, like: str) -> str:
    """A count in the unit and the rounding of a published figure.

    Args:
        value: Parameters, or multiply-adds.
        like: Published figure: ``+0.44M`` or ``+29.2K`` parameters, ``+1.45`` GFLOPs.
    """
    sign, digits, unit = re.fullmatch(r'(\+?)(?:\d+)(?:\.(\d+))?([MK]?)', like).groups()
    scale = {'M': 6, 'K': 3, '': 9}[unit]
    exact = Decimal(value).scaleb(-scale)
    rounded = exact.quantize(Decimal(1).scaleb(-len(digits or '')), ROUND_HALF_UP)
    return f'{rounded:+}{unit}' if sign else f'{rounded}{unit}'


def off_by(printed: str, published: str | None) -> str:
    """What our figure, from `as_printed`, is above the published one; ``0`` where they agree."""
    if not published:
        return ''
    ours, theirs = (Decimal(figure.rstrip('MK')) for figure in (printed, published))
    return f'{ours - theirs:+}{published[len(published.rstrip("MK")) :]}' if ours != theirs else '0'


def differences(row: Row, base: Row) -> dict[str, str]:
    """Our figures as printed, by kind, where they are not the published ones."""
    found = {}
    for kind, ours, of_base, published in (
        ('params', row.params, base.params, row.published_params),
        ('gflops', row.flops, base.flops, row.published_gflops),
    ):
        if published:
            printed = as_printed(ours - of_base if published.startswith('+') else ours, published)
            if printed != published:
                found[kind] = printed
    return found
