"""metafile.yml and model-index.yml say what is published and measured."""

import pytest
import yaml

from fade_mm.papers.tables import read_rows
from fade_mm.run.results import read_runs
from tests.tools import ROOT, run

INDEX = yaml.safe_load((ROOT / 'model-index.yml').read_text())
MODELS = {
    model['Config']: model
    for name in INDEX['Import']
    for model in yaml.safe_load((ROOT / name).read_text())['Models']
}


def test_they_are_those_of_the_figures():
    run('make_metafiles', '--check')


def test_a_changed_figure_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr('fade_mm.run.results.read_runs', lambda path: read_runs(path)[1:])
    with pytest.raises(SystemExit, match=r'segformer/metafile\.yml: not what .*make_metafiles'):
        run('make_metafiles', '--check')


def test_every_config_of_a_model_is_in_one():
    models = {
        path.relative_to(ROOT).as_posix()
        for path in ROOT.glob('configs/*/*.py')
        if path.parent.name not in ('_base_', 'own_data')
    }
    assert set(MODELS) == models


@pytest.mark.parametrize(
    'row',
    [row for row in read_rows() if row.config and row.published_metrics],
    ids=lambda x: x.stem,
)
def test_published_figures_are_there_and_called_that(row):
    if '::' in row.config:
        pytest.skip('a config of the library')
    results = MODELS[f'configs/{row.config.rpartition("/configs/")[2]}']['Results']
    theirs = [x for x in results if x['Origin'] == f'published: {row.source}']
    assert {x for result in theirs for x in result['Metrics'].values()} >= {
        float(x) for x in row.published_metrics.values()
    }


def test_measured_figures_are_means_over_seeds():
    results = MODELS['configs/segformer/segformer_mit-b0_fade_1xb4-1500_camvid-256x256.py'][
        'Results'
    ]
    (ours,) = (x for x in results if x['Origin'].startswith('measured: 1500 iterations, mean of'))
    runs = [
        x['scores']['mIoU']
        for x in read_runs(ROOT / 'docs/results.yml')
        if (x['data'], x['host'], x['upsampler']) == ('CamVid', 'SegFormer MiT-B0', 'FADE')
        and (x['budget'], x['options']) == ('1500 iterations', {})
    ]
    assert len(runs) > 1
    assert ours['Metrics']['mIoU'] == pytest.approx(sum(runs) / len(runs), abs=0.01)
