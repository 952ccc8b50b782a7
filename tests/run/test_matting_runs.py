"""The small recipe for mattes in the tools: both scores, the best kept, exact resumption."""

import pytest
import yaml

from tests.hosts.matting_data import matting_root
from tests.run.test_resume import assert_same_state
from tests.tools import config, run

SMALL = 'configs/matting/a2u-matting_r34-w24_{}_1xb8-1500_matting-96x96.py'


@pytest.fixture
def options(tmp_path):
    """A handful of iterations on tiny crops."""
    root = matting_root(tmp_path / 'matting')
    for name in ('fg', 'alpha'):
        (root / 'training').mkdir(exist_ok=True)
        (root / name).rename(root / 'training' / name)
    values = {
        'train_dataloader.dataset.data_root': root,
        'train_dataloader.dataset.backgrounds': root / 'bg',
        'train_dataloader.dataset.pipeline.7.crop_size': 32,
        'train_dataloader.batch_size': 2,
        'train_dataloader.num_workers': 0,
        'train_cfg.max_iters': 4,
        'train_cfg.val_interval': 2,
        'param_scheduler.total_steps': 4,
        'default_hooks.checkpoint.interval': 2,
        'default_hooks.checkpoint.max_keep_ckpts': 9,
        'model.base_channels': 4,
    }
    for split in ('val', 'test'):
        values[f'{split}_dataloader.num_workers'] = 0
        sets = f'{split}_dataloader.dataset.datasets'
        values |= {
            f'{sets}.0.data_root': root,
            f'{sets}.0.backgrounds': root / 'bg',
            f'{sets}.1.data_root': root / 'validation',
        }
    return [f'{key}={value}' for key, value in values.items()]


@pytest.mark.slow
def test_trains_resumes_and_is_tested(options, tmp_path):
    cfg, whole, parts = config(SMALL, 'fade'), tmp_path / 'whole', tmp_path / 'parts'
    run('train', cfg, '--work-dir', whole, '--cfg-options', *options)
    scores = {f'{x}{y}' for x in ('', 'natural/') for y in ('SAD', 'MSE', 'Grad', 'Conn')}
    result = yaml.safe_load((whole / 'result.yml').read_text())
    assert set(result['scores']) == set(result['curve'][2]) == scores
    sads = {2: result['curve'][2]['SAD'], 4: result['scores']['SAD']}
    (best,) = whole.glob('best_SAD_iter_*.pth')
    assert best.stem == f'best_SAD_iter_{min(sads, key=sads.get)}'

    resume = '--resume', whole / 'iter_2.pth'
    run('train', cfg, '--work-dir', parts, *resume, '--cfg-options', *options)
    assert_same_state(whole / 'iter_4.pth', parts / 'iter_4.pth')
    assert yaml.safe_load((parts / 'result.yml').read_text())['scores'] == result['scores']

    run('test', cfg, whole / 'iter_4.pth', '--work-dir', tmp_path / 't', '--cfg-options', *options)
    tested = yaml.safe_load((tmp_path / 't/test_result.yml').read_text())
    assert tested['scores'] == result['scores']  # the same composites in any run


@pytest.mark.parametrize(
    ('wrong', 'message'),
    [
        ('train_dataloader.dataset.backgrounds=nowhere', 'the data set is not there: .*nowhere'),
        ('train_dataloader.dataset.holdout=9', 'holdout=9 leaves none of 6 foregrounds'),
    ],
)
def test_data_that_is_not_there_is_told_first(wrong, message, options, tmp_path):
    command = 'train', config(SMALL, 'fade'), '--work-dir', tmp_path / 'w'
    with pytest.raises(SystemExit, match=f'error: {message}'):
        run(*command, '--cfg-options', *options, wrong)
