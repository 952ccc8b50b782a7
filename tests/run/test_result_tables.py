"""Tables of runs in pages, and the numbers in ours."""

from pathlib import Path

import pytest

from fade_mm.run import SetupError
from fade_mm.run.result_tables import fill, has_tables, score, select, summary, table
from fade_mm.run.results import read_runs

ROOT = Path(__file__).parents[2]
RUNS = read_runs(ROOT / 'docs/results.yml')
PAGES = [path for path in sorted(ROOT.glob('docs/*.md')) if has_tables(path.read_text())]


def run(upsampler, seed, options=None, curve=None, **scores):
    """A made-up run."""
    return dict(
        data='CamVid',
        upsampler=upsampler,
        seed=seed,
        options=options or {},
        scores=scores,
        curve=curve or {},
    )


def lines(definition, runs, kind='runs'):
    return table(kind, definition, runs).splitlines()


def test_a_row_is_the_mean_the_deviation_and_each_run_by_seed():
    """Of 1, 3 and 8, the mean is 4 and the sample variance (9 + 1 + 16) / 2 = 13."""
    runs = [run('FADE', 2, mIoU=3.0), run('FADE', 0, mIoU=8.0), run('FADE', 1, mIoU=1.0)]
    assert lines('columns: {IoU: mIoU}', [run('Nearest', 0, mIoU=2.0), *runs]) == [
        '| upsampling | runs (seeds) | IoU |',
        '|---|---|---|',
        '| Nearest | 1 (0) | 2.00 |',
        '| FADE | 3 (0, 1, 2) | 4.00 ± 3.61 (8.00, 1.00, 3.00) |',
    ]


def test_mmdetections_scores_are_in_percent():
    runs = [run('FADE', 0, **{'coco/bbox_mAP': 0.575})]
    assert lines('{columns: {AP: coco/bbox_mAP}, digits: 1}', runs)[2] == '| FADE | 1 (0) | 57.5 |'


def test_other_options_are_another_row():
    runs = [run('FADE', 0, mIoU=1.0), run('FADE', 1, options={'lr': 2}, mIoU=3.0)]
    assert lines('columns: {IoU: mIoU}', runs)[2:] == [
        '| FADE | 1 (0) | 1.00 |',
        '| FADE, lr=2 | 1 (1) | 3.00 |',
    ]


def test_what_rows_share_is_not_named():
    runs = [run('FADE', i, options={'train.a': 5, 'lr': i}, mIoU=1.0) for i in (1, 2)]
    made = lines("{columns: {IoU: mIoU}, unnamed: ['train.*']}", runs)
    assert [line.split('|')[1].strip() for line in made[2:]] == ['FADE, lr=1', 'FADE, lr=2']


def test_unknown_scores_and_seeds():
    assert summary([1.0, None, 2.0], 1) == '1.5 ± 0.7 (1.0, ?, 2.0)'
    assert summary([None]) == ''
    assert '| 2 (5, ?) |' in lines('columns: {}', [run('FADE', None), run('FADE', 5)])[2]


def test_curves_have_a_column_a_step():
    curve = {500: {'mIoU': 1.0, 'mBIoU': 2.0}, 1000: {'mIoU': 3.0, 'mBIoU': 4.0}}
    runs = [run('FADE', 0, curve=curve), run('Nearest', 0)]
    definition = '{columns: {mIoU: mIoU, bIoU: mBIoU}, digits: 1}'
    assert lines(definition, runs, 'curves') == [
        '| mIoU / bIoU after | 500 | 1,000 |',
        '|---|---|---|',
        '| FADE | 1.0 / 2.0 | 3.0 / 4.0 |',
    ]


def test_a_table_has_the_runs_that_match():
    runs = [run('FADE', 0), run('FADE-Lite', 0), run('FADE', 12)]
    assert select(runs, upsampler='FADE*', seed=0) == runs[:2]
    assert select(runs, upsampler='FADE', seed='1?') == runs[2:]


PAGE = 'a\n<!-- runs\ncolumns: {IoU: mIoU}\n-->\nstale\n<!-- end -->\nz\n'


def test_a_page_is_filled_once_and_nothing_beside_its_tables_changes():
    filled = fill(PAGE, [run('FADE', 0, mIoU=1.0)])
    assert filled == fill(filled, [run('FADE', 0, mIoU=1.0)])
    head, tail = PAGE.split('stale')
    assert filled.startswith(head)
    assert filled.endswith(tail)
    assert '\n\n| upsampling ' in filled
    assert 'stale' not in filled


@pytest.mark.parametrize(
    ('page', 'message'),
    [
        (PAGE.replace('<!-- end -->', ''), 'has no <!-- end -->'),
        (PAGE.replace('stale', '<!-- other -->'), 'another comment before it'),
        (PAGE.replace('columns', 'colums'), "needs columns, got 'colums"),
        (PAGE.replace('-->\nstale', 'sead: 1\n-->'), 'sead is no field of a run; there are task'),
        (PAGE.replace('-->\nstale', 'seed: 1\n-->'), "no run has {'seed': 1}"),
    ],
)
def test_a_table_that_cannot_be_made_says_why(page, message):
    with pytest.raises(SetupError, match=message):
        fill(page, [run('FADE', 0, mIoU=1.0)])


def test_the_pages_with_tables():
    assert {'results.md', 'finetune.md'} <= {path.name for path in PAGES}


@pytest.mark.parametrize('page', PAGES, ids=lambda path: path.name)
def test_pages_agree_with_the_data(page):
    text = page.read_text(encoding='utf-8')
    assert fill(text, RUNS) == text, 'run tools/results.py tables'


CAMVID = dict(config='configs/segformer/*_1xb4-1500_camvid-256x256.py', budget='1500 iterations')
BCCD = dict(config='configs/faster_rcnn/*_bccd-320x240.py')
SHAPES = dict(config='configs/mask_rcnn/*_shapes-128x128.py', budget='5 epochs')
NUCLEI = dict(config='configs/mask_rcnn/*_nuclei-256x256.py')
MATTES = dict(config='configs/matting/*_matting-96x96.py', budget='1500 iterations')
ROOMS = dict(config='configs/bts/*_nyu-320x240.py', budget='1200 iterations')
DEMO = dict(config='configs/segformer/*_shapes-128x128.py', budget='400 iterations')


def published(where, metrics, digits):
    """The means over all runs of an upsampler, as a page prints them."""
    runs = select(RUNS, **where)
    assert runs
    means = (sum(score(run, name) for run in runs) / len(runs) for name in metrics)
    return ' / '.join(f'{value:.{digits}f}' for value in means)


@pytest.mark.parametrize(
    ('row', 'where', 'stock', 'metrics', 'digits'),
    [
        ('SegFormer MiT-B0, generated shapes', DEMO, 'Bilinear', ['mIoU', 'mBIoU'], 2),
        ('SegFormer MiT-B0, CamVid', CAMVID, 'Bilinear', ['mIoU', 'mBIoU'], 2),
        ('Faster R-CNN R18-FPN, BCCD', BCCD, 'Nearest', ['coco/bbox_mAP'], 1),
        (
            'Mask R-CNN MobileNetV2-FPN, nuclei',
            NUCLEI,
            'Nearest',
            ['coco/segm_mAP', 'coco/boundary_mAP'],
            1,
        ),
        ('A2U Matting, narrow', MATTES, 'Bilinear', ['SAD', 'Grad'], 2),
        ('BTS MobileNetV2, narrow', ROOMS, 'Nearest', ['d1', 'rmse'], 3),
        ('Mask R-CNN R18-FPN', SHAPES, 'Nearest', ['coco/bbox_mAP', 'coco/segm_mAP'], 1),
    ],
)
def test_the_readme_agrees_with_the_data(row, where, stock, metrics, digits):
    (line,) = (x for x in (ROOT / 'README.md').read_text().splitlines() if f'| {row}' in x)
    cells = [cell.strip(' *') for cell in line.split('|')]
    where = dict(budget='12 epochs', options={}) | where  # other options are another row
    assert cells[3] == published({**where, 'upsampler': stock}, metrics, digits)
    assert cells[4] == published({**where, 'upsampler': 'FADE'}, metrics, digits)
    if 'three seeds' in line:
        for upsampler in (stock, 'FADE'):
            seeds = [run['seed'] for run in select(RUNS, **where, upsampler=upsampler)]
            assert seeds == [0, 1, 2]


def test_the_shorter_run_on_bccd_agrees_with_the_data():
    page = (ROOT / 'docs/results.md').read_text()
    assert f'AP {published({**BCCD, "budget": "3 epochs"}, ["coco/bbox_mAP"], 1)}:' in page


def test_seeds_move_a_row_of_camvid_by_what_the_page_says():
    page = ' '.join((ROOT / 'docs/results.md').read_text().split())
    spread = {}
    for run in select(RUNS, **CAMVID):
        for name in ('mIoU', 'mBIoU'):
            spread.setdefault((name, run['upsampler']), []).append(run['scores'][name])
    most = {
        name: max(max(values) - min(values) for (kind, _), values in spread.items() if kind == name)
        for name in ('mIoU', 'mBIoU')
    }
    assert f'by up to {most["mIoU"]:.1f} mIoU and {most["mBIoU"]:.1f} mBIoU' in page
