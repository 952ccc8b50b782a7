"""The tools for depth, on generated data; and the converter of maps of 8 bits."""

import json

import cv2
import numpy as np
import pytest
import torch
import yaml

from tests.conftest import write_depth
from tests.tools import BTS, CAMVID, UNET, config, nyu_options, run


def train(template, upsampler, root, work, *more, **options):
    cfg, options = config(template, upsampler), list(nyu_options(root, **options))
    run('train', cfg, '--work-dir', work, *more, '--cfg-options', *options)
    return cfg, options


@pytest.fixture(scope='module')
def depth_root(tmp_path_factory):
    return write_depth(tmp_path_factory.mktemp('data') / 'nyu')


@pytest.fixture(scope='module')
def trained(depth_root, tmp_path_factory):
    """A config, options, and the work dir of a training with FADE's gate."""
    work = tmp_path_factory.mktemp('work')
    return *train(UNET, 'fade', depth_root, work), work


def test_depth_is_trained_tested_kept_and_drawn(trained, depth_root, tmp_path):
    cfg, options, work = trained
    result = yaml.safe_load((work / 'result.yml').read_text())
    assert (result['task'], result['host']) == ('depth', 'U-Net MobileNetV2')
    assert (result['upsampler'], result['data']) == ('FADE', 'NYU Depth v2, 320x240')
    assert {'d1', 'abs_rel', 'silog', 'edge_rmse'} <= set(result['scores'])

    out, show = tmp_path / 'out', tmp_path / 'show'
    run(
        'test', cfg, work / 'iter_4.pth', '--work-dir', tmp_path / 'test', '--out', out,
        '--show-dir', show, '--cfg-options', *options,
    )  # fmt: skip
    tested = json.loads(next((tmp_path / 'test').glob('*/*.json')).read_text())
    assert tested['rmse'] == pytest.approx(result['scores']['rmse'], abs=1e-4)
    errors = []
    for name in '012':  # what is kept is what was scored
        kept = cv2.imread(str(out / f'{name}.png'), cv2.IMREAD_UNCHANGED)
        truth = cv2.imread(str(depth_root / f'depth/validation/{name}.png'), cv2.IMREAD_UNCHANGED)
        assert (kept.dtype, kept.shape) == (np.uint16, (48, 64))
        # Eigen's crop is 4:48 and 4:61 at this size, the frame 4 pixels
        d = (kept.astype(float) - truth)[4:44, 4:60] / 1000
        errors.append(np.sqrt((d**2).mean()))
        assert cv2.imread(str(show / f'{name}.png')).shape == (48, 3 * 64 + 64, 3)
    assert tested['rmse'] == pytest.approx(np.mean(errors), abs=1e-3)


@pytest.mark.slow
def test_averaging_with_the_mirrored_picture_by_config(trained, depth_root, tmp_path):
    cfg, options, work = trained
    flip = [
        'model.test_cfg.mode=slide_flip',
        'model.test_cfg.crop_size=(64,64)',
        'model.test_cfg.stride=(64,64)',
    ]
    maps = {}
    for name, more in (('whole', []), ('flip', flip)):
        run(
            'test', cfg, work / 'iter_4.pth', '--work-dir', tmp_path / f'test_{name}',
            '--out', tmp_path / name, '--cfg-options', *options, *more,
        )  # fmt: skip
        maps[name] = cv2.imread(str(tmp_path / name / '0.png'), cv2.IMREAD_UNCHANGED).astype(float)
    root = tmp_path / 'mirrored'
    for source in ('images/validation/0.jpg', 'depth/validation/0.png'):
        (root / source).parent.mkdir(parents=True)
        picture = cv2.imread(str(depth_root / source), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str((root / source).with_suffix('.png')), picture[:, ::-1])
    run(
        'test', cfg, work / 'iter_4.pth', '--work-dir', tmp_path / 'test_mirrored',
        '--out', tmp_path / 'mirrored_out', '--cfg-options', *options,
        f'test_dataloader.dataset.data_root={root}', 'test_dataloader.dataset.img_suffix=.png',
    )  # fmt: skip
    mirrored = cv2.imread(str(tmp_path / 'mirrored_out/0.png'), cv2.IMREAD_UNCHANGED)
    expected = (maps['whole'] + mirrored[:, ::-1]) / 2
    np.testing.assert_allclose(maps['flip'], expected, atol=1.01)  # millimetres
    assert np.abs(maps['flip'] - maps['whole']).max() > 2
    with pytest.raises(SystemExit, match=r'--tta: for depth, .*mode=slide_flip'):
        run('test', cfg, work / 'iter_4.pth', '--tta', '--cfg-options', *options)
    with pytest.raises(SystemExit, match='predicts by sliding windows'):
        run(
            'image_demo', root / 'images/validation/0.png', cfg, work / 'iter_4.pth',
            '--out-dir', tmp_path / 'demo', '--show-gate', '--cfg-options', *options, *flip,
        )  # fmt: skip


def test_a_resumed_run_is_the_whole_one(trained, depth_root, tmp_path):
    """With random rotations, crops, flips and colours."""
    *_, work = trained
    train(UNET, 'fade', depth_root, tmp_path / 'part', '--resume', work / 'iter_2.pth')
    ours, theirs = (
        torch.load(folder / 'iter_4.pth', weights_only=False)
        for folder in (tmp_path / 'part', work)
    )
    for key, value in ours['state_dict'].items():
        assert torch.equal(value, theirs['state_dict'][key]), key
    assert any('gate_generator' in key for key in ours['state_dict'])


def test_a_picture_is_drawn_with_its_gates(trained, depth_root, tmp_path):
    cfg, options, work = trained
    picture = depth_root / 'images/validation/0.jpg'
    run(
        'image_demo', picture, cfg, work / 'iter_4.pth', '--out-dir', tmp_path / 'demo',
        '--show-gate', '--cfg-options', *options,
    )  # fmt: skip
    written = {path.name for path in (tmp_path / 'demo').iterdir()}
    gates = {f'0.decode_head.upsamplers.{i}.gate.png' for i in range(4)}
    assert gates | {'0.png', '0.upsamplers.png'} <= written
    assert cv2.imread(str(tmp_path / 'demo/0.png')).shape == (48, 2 * 64 + 64, 3)


def test_bts_is_counted(depth_root, capsys):
    cfg, options = config(BTS, 'fade'), list(nyu_options(depth_root))
    run('get_flops', cfg, '--cfg-options', *options)
    assert 'input       32 x 48' in capsys.readouterr().out


@pytest.mark.slow
def test_bts_trains_and_is_exported(depth_root, tmp_path, capsys):
    work = tmp_path / 'work'
    cfg, options = train(BTS, 'fade', depth_root, work)
    run(
        'export_onnx', cfg, work / 'iter_4.pth', tmp_path / 'depth.onnx', '--shape', 64, 96,
        '--cfg-options', *options,
    )  # fmt: skip
    import onnx

    model = onnx.load(str(tmp_path / 'depth.onnx'))
    assert [x.name for x in model.graph.output] == ['depth']
    assert 'written' in capsys.readouterr().out


def test_a_map_of_eight_bits_is_one_line(tmp_path):
    root = write_depth(tmp_path / 'nyu')
    for path in (root / 'depth/training').iterdir():
        cv2.imwrite(str(path), np.zeros((48, 64), np.uint8))
    with pytest.raises(SystemExit, match=r'\d\.png has 8 bits a pixel'):
        train(UNET, 'nearest', root, tmp_path / 'work')


def test_models_are_laid_side_by_side(trained, tmp_path):
    cfg, options, work = trained
    pair, out = (cfg, work / 'iter_4.pth'), tmp_path / 'depth.png'
    run(
        'compare_depth', *pair, *pair, '--out', out, '--pictures', '2', '0',
        '--cfg-options', *options,
    )  # fmt: skip
    two = cv2.imread(str(out))
    run('compare_depth', *pair, '--out', out, '--rows', 1, '--cfg-options', *options)
    one = cv2.imread(str(out))
    assert two.shape[0] > 1.8 * one.shape[0]  # rows
    assert two.shape[1] > 1.3 * one.shape[1]  # models
    mine = tmp_path / 'mine.png'
    cv2.imwrite(str(mine), np.zeros((50, 70, 3), np.uint8))
    run(
        'compare_depth', *pair, *pair, '--out', out, '--images', mine, mine,
        '--cfg-options', *options,
    )  # fmt: skip
    assert cv2.imread(str(out)).shape[1] < 0.7 * two.shape[1]  # neither truth nor errors
    with pytest.raises(SystemExit, match=r'none\.png cannot be read as a picture'):
        run(
            'compare_depth', *pair, '--out', out, '--images', tmp_path / 'none.png',
            '--cfg-options', *options,
        )  # fmt: skip
    with pytest.raises(SystemExit, match=r'the test set has no picture 9, but 0, \.\.\.'):
        run('compare_depth', *pair, '--out', out, '--pictures', '9', '--cfg-options', *options)
    other = tmp_path / 'other.py'  # tested on what it is trained on
    other.write_text(f'_base_ = {str(cfg)!r}\ntest_dataloader = {{{{_base_.train_dataloader}}}}\n')
    with pytest.raises(SystemExit, match=r'other\.py is tested on other pictures'):
        run(
            'compare_depth', *pair, other, pair[1], '--out', out, '--rows', 1,
            '--cfg-options', *options,
        )  # fmt: skip
    with pytest.raises(SystemExit, match=r'has no fade_mm\.DepthMetric'):
        run('compare_depth', config(CAMVID, 'fade'), work / 'iter_4.pth', '--out', out)


# The converter


@pytest.fixture
def eight_bits(tmp_path):
    root = tmp_path / 'eight'
    for kind in ('images', 'depth'):
        (root / kind / 'validation').mkdir(parents=True)
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    cv2.imwrite(str(root / 'depth/validation/0001.png'), values)
    cv2.imwrite(str(root / 'images/validation/0001.jpg'), values)
    (root / 'depth_scales.csv').write_text('split,name,dmax_m,min_m\nvalidation,0001,3.6151,1.7\n')
    return root


def test_maps_of_eight_bits_become_millimetres(eight_bits, tmp_path, capsys):
    run('dataset_converters/depth_from_8bit', eight_bits, tmp_path / 'out')
    assert '1 depth maps' in capsys.readouterr().out
    depth = cv2.imread(str(tmp_path / 'out/depth/validation/0001.png'), cv2.IMREAD_UNCHANGED)
    assert depth.dtype == np.uint16
    for value in (0, 17, 255):
        metres = (value + 0.5) * 3.6151 / 255
        assert abs(depth.flat[value] / 1000 - metres) <= 0.0005
    picture = 'images/validation/0001.jpg'
    assert (tmp_path / 'out' / picture).read_bytes() == (eight_bits / picture).read_bytes()
    with pytest.raises(SystemExit, match='exists already'):
        run('dataset_converters/depth_from_8bit', eight_bits, tmp_path / 'out')


def test_what_cannot_be_converted_is_named(eight_bits, tmp_path):
    cv2.imwrite(str(eight_bits / 'depth/validation/0001.png'), np.zeros((4, 4), np.uint16))
    with pytest.raises(SystemExit, match=r'0001\.png is no map of 8 bits'):
        run('dataset_converters/depth_from_8bit', eight_bits, tmp_path / 'out')
    (eight_bits / 'depth_scales.csv').write_text('split,name\nvalidation,0001\n')
    with pytest.raises(SystemExit, match='must have the columns split, name and dmax_m'):
        run('dataset_converters/depth_from_8bit', eight_bits, tmp_path / 'out')
    assert not (tmp_path / 'out').exists()
