"""`tools/export_onnx.py` on a small SegFormer, and what it refuses."""

import re

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from mmengine.registry import MODELS, DefaultScope

from fade_mm.hosts.mmseg.export import ExportedSegmentor
from fade_mm.run import build_model, load_config
from tests.tools import BCCD, CAMVID, ROOT, config, run

# Two stages of MiT-B0's four, since every layer costs the exporter time.
SMALL = {
    'model.backbone.num_stages': 2,
    'model.backbone.num_layers': [1, 1],
    'model.backbone.num_heads': [1, 2],
    'model.backbone.patch_sizes': [7, 3],
    'model.backbone.strides': [4, 2],
    'model.backbone.sr_ratios': [8, 4],
    'model.backbone.out_indices': [0, 1],
    'model.backbone.embed_dims': 8,
    'model.decode_head.in_channels': [8, 16],
    'model.decode_head.in_index': [0, 1],
    'model.decode_head.channels': 32,
}
OPTIONS = [f'{key}={value}'.replace(' ', '') for key, value in SMALL.items()]


def save_untrained(upsampler, path):
    """The model of a config with random weights, which are saved."""
    torch.manual_seed(0)
    cfg = load_config(str(config(CAMVID, upsampler)), SMALL)
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = MODELS.build(cfg.model).eval()
    torch.save(dict(state_dict=model.state_dict(), meta={}), path)
    return model


@pytest.mark.slow
def test_a_whole_model_is_exported_and_compared(tmp_path, capsys):
    weights = tmp_path / 'weights.pth'
    segmentor = save_untrained('fade', weights)
    out = tmp_path / 'model.onnx'
    arguments = ('--shape', 64, 96, '--cfg-options', *OPTIONS)
    run('export_onnx', config(CAMVID, 'fade'), weights, out, *arguments)
    printed = capsys.readouterr().out
    rows = re.findall(r'^(\d+x\d+) +(\S+) +(\S+) +(\S+)$', printed, re.M)
    assert [row[0] for row in rows] == ['64x96', '63x95', '33x96', '35x54']
    assert all(0 < float(row[1]) < 1e-4 for row in rows)
    assert all(float(time) > 0 for row in rows for time in row[2:])
    session = onnxruntime.InferenceSession(out)
    assert session.get_inputs()[0].shape == ['batch', 3, 'height', 'width']
    for size in [(1, 3, 71, 45), (3, 3, 40, 33)]:
        image = np.random.default_rng(0).uniform(0, 255, size).astype(np.float32)
        (logits,) = session.run(['logits'], {'image': image})
        with torch.no_grad():
            expected = ExportedSegmentor(segmentor)(torch.from_numpy(image)).numpy()
        assert logits.shape == (size[0], 11, *size[2:])
        np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4)


R18 = {'model.backbone.depth': 18, 'model.auxiliary_head': None}
LEVELS = [64, 128, 256, 512]
OTHER_HOSTS = {
    'upernet/upernet_r50_fade_4xb4-160k_ade20k-512x512.py': R18
    | {'model.decode_head.in_channels': LEVELS, 'model.decode_head.channels': 16},
    'sem_fpn/fpn_r50_fade_4xb4-160k_ade20k-512x512.py': R18
    | {
        'model.neck.in_channels': LEVELS,
        'model.neck.out_channels': 16,
        'model.decode_head.in_channels': [16] * 4,
        'model.decode_head.channels': 16,
    },
}


@pytest.mark.slow
@pytest.mark.parametrize('name', OTHER_HOSTS)
def test_other_hosts_are_exported(name, tmp_path, capsys):
    """Their pooling and their resizing have sizes that ONNX, or the tracer, would fix."""
    weights, out, path = tmp_path / 'weights.pth', tmp_path / 'model.onnx', ROOT / 'configs' / name
    model = build_model(load_config(str(path), OTHER_HOSTS[name]))
    torch.save(dict(state_dict=model.state_dict()), weights)
    slide = {
        'model.test_cfg.mode': 'slide',
        'model.test_cfg.crop_size': (64, 64),
        'model.test_cfg.stride': (32, 32),
    }
    options = [f'{k}={v}'.replace(' ', '') for k, v in (OTHER_HOSTS[name] | slide).items()]
    run('export_onnx', path, weights, out, '--shape', 96, 128, '--cfg-options', *options)
    assert 'note: tested by sliding windows' in capsys.readouterr().out
    assert 'sliding windows' in onnx.load(str(out)).doc_string


@pytest.mark.slow
@pytest.mark.parametrize(
    'upsampler',
    [
        'a2u',
        'sapa-g',
        'sapa-d',
        'lda-aqu',
        'carafe',
        'dysample',
        'freqfusion',
        'indexnet',
        'deconv',
    ],
)
def test_every_upsampler_is_exported(upsampler, tmp_path):
    weights, out = tmp_path / 'weights.pth', tmp_path / 'model.onnx'
    save_untrained(upsampler, weights)
    arguments = ('--shape', 64, 96, '--cfg-options', *OPTIONS)
    run('export_onnx', config(CAMVID, upsampler), weights, out, *arguments)
    assert out.stat().st_size


@pytest.mark.slow
def test_a_file_that_differs_too_much_is_not_written(tmp_path):
    """With a stock model, and a tolerance that float32 cannot keep."""
    weights, out = tmp_path / 'weights.pth', tmp_path / 'model.onnx'
    save_untrained('bilinear', weights)
    out.write_text('old')
    arguments = ('--shape', 64, 64, '--tolerance', 0, '--cfg-options', *OPTIONS)
    with pytest.raises(SystemExit, match=r'ONNX Runtime differs .*model\.onnx is not written'):
        run('export_onnx', config(CAMVID, 'bilinear'), weights, out, *arguments)
    assert out.read_text() == 'old'


@pytest.mark.slow
def test_models_are_timed_beside_each_other(capsys):
    configs = (config(CAMVID, 'bilinear'), config(CAMVID, 'fade'))
    sizes = ('--shape', 64, 96, '--repeats', 2, '--cfg-options', *OPTIONS)
    run('benchmark_onnx', *configs, *sizes)
    printed = capsys.readouterr().out
    bilinear, fade = re.findall(r'^│ segformer\S+ +│ +(\S+) │ +(\S+) │$', printed, re.M)
    assert bilinear[1] == '1.00'
    assert min(float(bilinear[0]), float(fade[0])) > 0
    kinds = re.findall(r'^│ (\w+) +│ +[\d.]+ │ +[\d.]+ │$', printed, re.M)
    assert 'Conv' in kinds


@pytest.mark.parametrize(
    ('template', 'checkpoint', 'out', 'extra', 'message'),
    [
        (CAMVID, 'no.pth', 'x.onnx', [], r'no\.pth cannot be loaded: there is no such file'),
        (CAMVID, 'weights.pth', 'weights.pth', [], r'must be a file that ends in \.onnx'),
        (CAMVID, 'weights.pth', 'no/x.onnx', [], 'there is no folder'),
        (CAMVID, 'weights.pth', 'x.onnx', ['--opset', 11], 'opset must be at least 18'),
        (CAMVID, 'weights.pth', 'x.onnx', ['--shape', 8, 8], 'shape must be at least 64 64'),
        (BCCD, 'weights.pth', 'x.onnx', [], 'a FasterRCNN cannot be exported'),
        (CAMVID, 'weights.pth', 'x.onnx', [], 'does not fit the model'),
    ],
    ids=['missing', 'ending', 'folder', 'opset', 'shape', 'detector', 'other-model'],
)
def test_bad_input_is_refused_before_time_is_spent(
    template, checkpoint, out, extra, message, tmp_path
):
    save_untrained('bilinear', tmp_path / 'weights.pth')
    with pytest.raises(SystemExit, match=message):
        run('export_onnx', config(template, 'fade'), tmp_path / checkpoint, tmp_path / out, *extra)
    assert [path.name for path in tmp_path.iterdir()] == ['weights.pth']
