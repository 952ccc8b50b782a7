"""A resumed run equals the uninterrupted one bit for bit."""

import pytest
import torch

from tests.tools import BCCD, CAMVID, bccd_options, camvid_options, config, run


def assert_equal(a, b, path=''):
    """Compare nested containers of tensors exactly."""
    assert type(a) is type(b), path
    if isinstance(a, dict):
        assert a.keys() == b.keys(), path
        for key in a:
            assert_equal(a[key], b[key], f'{path}.{key}')
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), path
        for i, pair in enumerate(zip(a, b, strict=True)):
            assert_equal(*pair, f'{path}.{i}')
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b), path
    else:
        assert a == b, path


def assert_same_state(a, b):
    a, b = (torch.load(path, weights_only=False) for path in (a, b))
    for part in ('state_dict', 'optimizer', 'param_schedulers'):
        assert_equal(a[part], b[part], part)
    assert torch.equal(a['random_state']['torch'], b['random_state']['torch'])


def train(cfg, work, options, *resume):
    run('train', cfg, '--work-dir', work, *resume, '--cfg-options', *options)


@pytest.mark.parametrize('seed', ['0', 'None'])
@pytest.mark.parametrize('val_interval', [1, 6])
def test_iterations(segmentation_root, tmp_path, seed, val_interval):
    """Six iterations at once, and two and then four more, with dropout and drop path."""
    cfg = config(CAMVID, 'fade')
    options = [
        *camvid_options(
            segmentation_root,
            iterations=6,
            **{'train_cfg.val_interval': val_interval, 'randomness.seed': seed},
        ),
        'train_dataloader.dataset.pipeline.2.crop_size=(48,64)',  # the whole image
        'train_dataloader.dataset.pipeline.3.prob=0.0',
        'model.data_preprocessor.size=(48,64)',
    ]
    train(cfg, tmp_path / 'whole', options)
    parts = tmp_path / 'parts'
    parts.mkdir()
    (parts / 'iter_2.pth').write_bytes((tmp_path / 'whole/iter_2.pth').read_bytes())
    (parts / 'last_checkpoint').write_text(str(parts / 'iter_2.pth'))
    train(cfg, parts, options, '--resume')
    assert_same_state(tmp_path / 'whole/iter_6.pth', parts / 'iter_6.pth')


def test_epochs(detection_root, tmp_path):
    """Three epochs at once, and one and then two more; flips are random and repeat all the same."""
    cfg = config(BCCD, 'nearest')
    options = list(bccd_options(detection_root, epochs=3))
    train(cfg, tmp_path / 'whole', options)
    train(cfg, tmp_path / 'parts', options, '--resume', tmp_path / 'whole/epoch_1.pth')
    assert_same_state(tmp_path / 'whole/epoch_3.pth', tmp_path / 'parts/epoch_3.pth')


def test_validation_does_not_change_what_is_learnt(segmentation_root, tmp_path):
    cfg = config(CAMVID, 'bilinear')
    for name, interval in (('often', 1), ('once', 4)):
        options = camvid_options(segmentation_root, **{'train_cfg.val_interval': interval})
        train(cfg, tmp_path / name, list(options))
    assert_same_state(tmp_path / 'often/iter_4.pth', tmp_path / 'once/iter_4.pth')


def test_resume_in_the_config_is_exact_too(segmentation_root, tmp_path):
    cfg = config(CAMVID, 'bilinear')
    options = list(camvid_options(segmentation_root, **{'randomness.seed': 'None'}))
    options.append('train_dataloader.dataset.pipeline.2.crop_size=(48,64)')
    options += [
        'model.data_preprocessor.size=(48,64)',
        'train_dataloader.dataset.pipeline.3.prob=0.0',
    ]
    train(cfg, tmp_path / 'whole', options)
    checkpoint = tmp_path / 'whole/iter_2.pth'
    train(cfg, tmp_path / 'parts', [*options, 'resume=True', f'load_from={checkpoint}'])
    assert_same_state(tmp_path / 'whole/iter_4.pth', tmp_path / 'parts/iter_4.pth')


def test_weights_alone_cannot_be_resumed_from(tmp_path):
    torch.save(dict(weight=torch.zeros(1)), tmp_path / 'a.pth')
    with pytest.raises(SystemExit, match=r'holds weights alone; start from it with load_from'):
        run('train', config(CAMVID, 'bilinear'), '--resume', tmp_path / 'a.pth')


def test_nothing_to_resume_from_starts_from_the_beginning(segmentation_root, tmp_path, capsys):
    options = list(camvid_options(segmentation_root, iterations=2))
    train(config(CAMVID, 'bilinear'), tmp_path / 'new', options, '--resume')
    assert 'training from the beginning' in capsys.readouterr().out
    assert (tmp_path / 'new/iter_2.pth').exists()
