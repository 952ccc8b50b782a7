"""Mattes go through all tools: training, resuming, testing, drawing, counting, exporting."""

import json
import re
import runpy

import cv2
import numpy as np
import pytest
import torch
import yaml

from fade_mm.hosts import host_of
from fade_mm.run import build_model, load_config
from fade_mm.run.side_by_side import captioned
from tests.tools import ROOT, run

CONFIG = ROOT / 'configs/matting/a2u-matting_r34-w24_fade_1xb8-1500_matting-96x96.py'


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    """Foregrounds, backgrounds, and pictures with alphas and trimaps, of odd sizes."""
    rng = np.random.default_rng(0)
    root = tmp_path_factory.mktemp('mattes')
    for folder in ('training/fg', 'training/alpha', 'backgrounds'):
        (root / folder).mkdir(parents=True)
    for folder in ('image', 'alpha', 'trimap'):
        (root / 'validation' / folder).mkdir(parents=True)
    for i in range(12):
        blob = np.zeros((75, 90), np.uint8)
        cv2.circle(blob, (int(rng.integers(30, 60)), 37), 22, 255, -1)
        alpha = cv2.GaussianBlur(blob, (0, 0), 4)
        colours = rng.integers(0, 255, (2, 1, 1, 3)) + rng.integers(-20, 20, (2, 75, 90, 3))
        fg, bg = colours.clip(0, 255).astype(np.uint8)
        cv2.imwrite(str(root / f'training/fg/{i:02}.png'), fg)
        cv2.imwrite(str(root / f'training/alpha/{i:02}.png'), alpha)
        cv2.imwrite(str(root / f'backgrounds/{i:02}.jpg'), bg)
        if i < 2:
            share = alpha[..., None] / 255
            folder = root / 'validation'
            cv2.imwrite(str(folder / f'image/{i}.png'), share * fg + (1 - share) * bg)
            cv2.imwrite(str(folder / f'alpha/{i}.png'), alpha)
            trimap = np.full_like(alpha, 128)
            trimap[alpha == 0], trimap[alpha > 250] = 0, 255
            cv2.imwrite(str(folder / f'trimap/{i}.png'), trimap)
    return root


def small(root):
    """A handful of iterations of a narrow network on small crops."""
    fixed = {
        'model.base_channels': 8,
        'train_dataloader.dataset.data_root': str(root),
        'train_dataloader.dataset.backgrounds': str(root / 'backgrounds'),
        'train_dataloader.dataset.pipeline.7.crop_size': 32,
        'train_dataloader.batch_size': 2,
        'train_dataloader.num_workers': 0,
        'train_cfg.max_iters': 4,
        'train_cfg.val_interval': 4,
        'default_hooks.checkpoint.interval': 2,
        'default_hooks.checkpoint.max_keep_ckpts': 9,
    }
    for split in ('val', 'test'):
        data = f'{split}_dataloader.dataset.datasets'
        fixed |= {
            f'{split}_dataloader.num_workers': 0,
            f'{data}.0.data_root': str(root),
            f'{data}.0.backgrounds': str(root / 'backgrounds'),
            f'{data}.1.data_root': str(root / 'validation'),
        }
    return fixed


def options(root):
    return ['--cfg-options', *(f'{key}={value}' for key, value in small(root).items())]


@pytest.fixture(scope='module')
def trained(root):
    """The work dir of a training."""
    run('train', CONFIG, '--work-dir', root / 'whole', *options(root))
    return root / 'whole'


def test_trains_and_tells_what_it_was(trained):
    result = yaml.safe_load((trained / 'result.yml').read_text())
    assert (result['task'], result['host']) == ('matting', 'A2U Matting R34 x0.125')
    assert result['upsampler'] == 'FADE'
    assert set(result['scores']) >= {'SAD', 'MSE', 'Grad', 'Conn', 'natural/SAD'}
    assert list(trained.glob('best_SAD_iter_4.pth'))


def test_resumes_exactly(root, trained):
    part = root / 'part'
    run('train', CONFIG, '--work-dir', part, '--resume', trained / 'iter_2.pth', *options(root))
    ours, theirs = (
        torch.load(folder / 'iter_4.pth', weights_only=False)['state_dict']
        for folder in (part, trained)
    )
    assert any('up.ker_generator' in key for key in ours)
    for key, value in ours.items():
        assert torch.equal(value, theirs[key]), key


def test_is_tested_kept_and_drawn(root, trained, tmp_path):
    run(
        'test', CONFIG, trained / 'iter_4.pth', '--work-dir', tmp_path / 'work',
        '--out', tmp_path / 'kept', '--show-dir', tmp_path / 'drawn', *options(root),
    )  # fmt: skip
    kept, drawn = (
        {path.name: cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in folder.iterdir()}
        for folder in (tmp_path / 'kept', tmp_path / 'drawn')
    )
    assert kept.keys() == drawn.keys() >= {'0.png', '1.png'}
    assert len(kept) == 2 + 10  # five composites of each of two foregrounds
    for name, alpha in kept.items():
        h, w = alpha.shape
        assert drawn[name].shape == (2 * h, 3 * w, 3)
        assert np.array_equal(drawn[name][:h, w : 2 * w, 0], alpha)
    folder = root / 'validation'
    trimap, picture, truth = (
        cv2.imread(str(folder / f'{kind}/0.png'), flag)
        for kind, flag in (('trimap', 0), ('image', 1), ('alpha', 0))
    )
    assert np.array_equal(kept['0.png'][trimap != 128], trimap[trimap != 128])
    assert np.array_equal(drawn['0.png'][:75, :90], picture)
    assert np.array_equal(drawn['0.png'][75:, 90:180, 0], truth)
    results = json.loads(next((tmp_path / 'work').glob('*/*.json')).read_text())
    unknown = trimap == 128
    differences = [
        np.abs(kept[f'{i}.png'] / 255.0 - cv2.imread(str(folder / f'alpha/{i}.png'), 0) / 255)
        for i in (0, 1)
    ]
    assert results['natural/SAD'] == pytest.approx(
        np.mean([x.sum() for x in differences]) / 1000, abs=0.02 * unknown.sum() / 1000
    )


def test_pictures_are_cut_out(root, trained, tmp_path):
    folder = root / 'validation'
    run(
        'image_demo', folder / 'image', CONFIG, trained / 'iter_4.pth', '--out-dir', tmp_path,
        '--trimaps', folder / 'trimap', '--show-gate', *options(root),
    )  # fmt: skip
    found = {path.name: cv2.imread(str(path), -1) for path in tmp_path.iterdir()}
    assert len(found) == 2 * (3 + 1 + 4 * 2)
    assert found['0.png'].shape == (75, 270, 3)  # no truth below
    assert found['0.alpha.png'].shape == (75, 90)
    assert found['0.cutout.png'].shape == (75, 90, 4)
    assert np.array_equal(found['0.cutout.png'][..., 3], found['0.alpha.png'])
    picture = cv2.imread(str(folder / 'image/0.png'))
    opaque = found['0.alpha.png'] == 255
    colours = found['0.cutout.png'][..., :3].astype(int)
    assert np.abs(colours - picture)[opaque].max() <= 1
    assert found['0.network.decoder_layer1.up.gate.png'].shape == (75, 90, 3)


@pytest.fixture
def refused(root, trained, tmp_path, monkeypatch):
    """Runs the demo where it must stop before the model is loaded."""
    monkeypatch.setattr('fade_mm.run.init_model', lambda *_: pytest.fail('loaded'))
    picture = root / 'validation/image/0.png'

    def refuse(message, *trimaps):
        asked = ['--trimaps', *trimaps] if trimaps else []
        with pytest.raises(SystemExit, match=message):
            run(
                'image_demo', picture, CONFIG, trained / 'iter_4.pth', '--out-dir', tmp_path,
                *asked, *options(root),
            )  # fmt: skip

    return refuse


def test_trimaps_are_checked_before_time_is_spent(root, refused, tmp_path):
    trimap = cv2.imread(str(root / 'validation/trimap/0.png'), 0)

    def made(name, content):
        cv2.imwrite(str(tmp_path / name), content)
        return tmp_path / name

    refused('the model needs a trimap for each picture: --trimaps')
    refused('2 trimaps for 1 picture;', *[root / 'validation/trimap/0.png'] * 2)
    (tmp_path / 'others').mkdir()
    made('others/b.png', trimap)
    refused(r'others has no trimap 0 for \S+0\.png', tmp_path / 'others')
    refused('there is no trimap .*nothing, and no folder of that name', tmp_path / 'nothing')
    refused('has 74 rows and 90 columns, its picture', made('cut.png', trimap[:-1]))
    refused('values 7; a trimap has 0', made('seven.png', np.where(trimap == 0, 7, trimap)))
    refused('16 values; a trimap has 8 bits', made('deep.png', trimap.astype(np.uint16) * 257))
    coloured = np.dstack([trimap, 255 - trimap, trimap])
    refused('is coloured; a trimap is grey', made('colour.png', coloured))


def test_a_model_of_pictures_alone_takes_no_trimaps(root, tmp_path):
    camvid = ROOT / 'configs/segformer/segformer_mit-b0_fade_1xb4-1500_camvid-256x256.py'
    torch.save({}, tmp_path / 'weights.pth')
    with pytest.raises(SystemExit, match='the model takes pictures alone; leave out --trimaps'):
        run(
            'image_demo', root / 'validation/image/0.png', camvid, tmp_path / 'weights.pth',
            '--out-dir', tmp_path / 'out', '--trimaps', root / 'validation/trimap/0.png',
        )  # fmt: skip


def test_is_counted(capsys):
    run('get_flops', CONFIG, '--shape', '64', '96')
    printed = capsys.readouterr().out
    assert 'input       64 x 96' in printed
    parameters = sum(p.numel() for p in build_model(load_config(str(CONFIG))).parameters())
    assert f'({parameters:,})' in printed


def test_is_timed(root, capsys):
    more = root / 'timed.py'
    load_config(str(CONFIG), small(root)).dump(more)
    run('benchmark_train', more, '--repeats', '1')
    assert re.search(r'timed *│ +\S+ │ +\d', capsys.readouterr().out)


def let_alpha_vary(model, picture, trimap):
    """Scale an untrained model's last layers, so that its alpha is neither 0 nor 1."""
    seen, norm, last = [], model.network.pred[0][1], model.network.pred[1]
    handle = norm.register_forward_hook(lambda *args: seen.append(args[-1]))
    host_of(model).predict(model.eval(), picture, trimap)
    handle.remove()
    factor = 0.2 / seen[0].std()
    with torch.no_grad():
        norm.bias.copy_(0.5 + factor * (norm.bias - seen[0].mean()))
        norm.weight.mul_(factor)
        last.weight.abs_().div_(last.weight.sum())


@pytest.mark.slow
def test_is_exported(root, tmp_path, capsys):
    onnx = pytest.importorskip('onnx')
    runtime = pytest.importorskip('onnxruntime')
    torch.manual_seed(0)
    model = build_model(load_config(str(CONFIG), small(root)))
    folder = root / 'validation'
    let_alpha_vary(model, folder / 'image/0.png', folder / 'trimap/0.png')
    weights, out = tmp_path / 'weights.pth', tmp_path / 'matting.onnx'
    torch.save(model.state_dict(), weights)
    run('export_onnx', CONFIG, weights, out, '--shape', '64', '80', *options(root))
    printed = capsys.readouterr().out
    assert f'written: {out}' in printed
    assert '\n64x80 ' in printed
    assert '\n48x80 ' in printed
    assert 'multiples of 16' in onnx.load(out).doc_string
    picture, trimap = (cv2.imread(str(folder / f'{x}/0.png'), -1) for x in ('image', 'trimap'))
    inputs = {}
    for name, x in (('image', picture), ('trimap', trimap[..., None])):
        x = np.pad(x, [(0, 5), (0, 6), (0, 0)], mode='reflect')
        inputs[name] = x.transpose(2, 0, 1)[None].astype(np.float32)
    [alpha] = runtime.InferenceSession(out).run(None, inputs)
    run(
        'image_demo', folder / 'image/0.png', CONFIG, weights,
        '--out-dir', tmp_path / 'demo', '--trimaps', folder / 'trimap/0.png', *options(root),
    )  # fmt: skip
    expected = cv2.imread(str(tmp_path / 'demo/0.alpha.png'), -1)
    assert expected[trimap == 128].std() > 10
    assert np.abs(np.rint(255 * alpha[0, 0, :75, :90]) - expected).max() <= 1


def test_models_are_laid_side_by_side_at_full_size(root, trained, tmp_path):
    pair, out = (CONFIG, trained / 'iter_4.pth'), tmp_path / 'mattes.png'
    run(
        'compare_mattes', *pair, *pair, '--out', out, '--pictures', '1', '05', '--size', 48,
        *options(root),
    )  # fmt: skip
    shown = cv2.imread(str(out))
    alpha = 'FADE: SAD 0.00'  # a digit is as wide as another
    widths = [captioned(shown[:48, :48], x).shape[1] for x in (alpha, 'picture', 'truth')]
    gate = captioned(shown[:48, :48], 'gate of FADE').shape[1]
    assert shown.shape == (2 * (48 + 24), widths[0] + sum(widths) + gate, 3)  # two alphas
    assert widths[2] == 48 + 4 < gate  # a gap, unless the caption is wider
    picture = cv2.imread(str(root / 'validation/image/1.png'))
    part = shown[24:72, :48]
    found = cv2.matchTemplate(picture, part, cv2.TM_SQDIFF)
    top, left = np.unravel_index(found.argmin(), found.shape)
    assert np.array_equal(part, picture[top : top + 48, left : left + 48])
    truth = cv2.imread(str(root / 'validation/alpha/1.png'))
    assert np.array_equal(shown[24:72, 52:100], truth[top : top + 48, left : left + 48])
    segformer = ROOT / 'configs/segformer/segformer_mit-b0_fade_1xb8-400_shapes-128x128.py'
    with pytest.raises(SystemExit) as stopped:
        run('compare_mattes', *pair, '--out', tmp_path / 'nowhere/mattes.png')
    assert stopped.value.code == 2  # before a model is read
    with pytest.raises(SystemExit, match='is of segmentation, not of matting'):
        run('compare_mattes', segformer, trained / 'iter_4.pth', '--out', out)


def test_the_busiest_part_has_most_unknown_pixels():
    busiest = runpy.run_path(str(ROOT / 'tools/compare_mattes.py'))['busiest']

    unknown = np.random.default_rng(0).random((30, 41)) < 0.2
    part = busiest(unknown, 12)
    counts = np.lib.stride_tricks.sliding_window_view(unknown, (12, 12)).sum((2, 3))
    assert unknown[part].sum() == counts.max()
    assert unknown[busiest(unknown, 99)].shape == unknown.shape
