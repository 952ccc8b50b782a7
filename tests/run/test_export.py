"""Necks and heads as ONNX files: standard operators, ONNX Runtime's results, any size."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from fade_mm.hosts.mmseg.export import AveragePool, ExportedSegmentor
from fade_mm.hosts.stand_ins import FPN, SegformerHead
from fade_mm.run import SetupError
from fade_mm.run.export import (
    check_onnx_path,
    export_onnx,
    replaced_when_done,
)

CHANNELS = [4, 8, 16]
HEAD = dict(in_channels=CHANNELS, in_index=[0, 1, 2], channels=16, num_classes=5)
# Rounded up or down from level to level; the smallest level is 1 point; all levels of one size.
SIZES = [
    [(12, 20), (6, 10), (3, 5)],
    [(29, 15), (15, 8), (8, 4)],
    [(29, 15), (14, 7), (7, 3)],
    [(4, 3), (2, 1), (1, 1)],
    [(7, 9), (7, 9), (7, 9)],
]


def features(sizes, batch=1):
    generator = torch.Generator().manual_seed(0)
    return tuple(
        torch.randn(batch, c, *size, generator=generator)
        for c, size in zip(CHANNELS, sizes, strict=True)
    )


@pytest.mark.parametrize(
    ('build', 'upsample_cfg'),
    [
        (lambda **kwargs: FPN(CHANNELS, 8, 4, **kwargs), dict(type='fade', gating=True)),
        (lambda **kwargs: SegformerHead(**HEAD, **kwargs), dict(type='fade')),
        (lambda **kwargs: SegformerHead(**HEAD, **kwargs), dict(type='bilinear')),
    ],
    ids=['fpn-fade', 'segformer-fade', 'segformer-bilinear'],
)
def test_onnx_runtime_agrees_at_sizes_that_the_export_did_not_see(build, upsample_cfg, tmp_path):
    torch.manual_seed(0)
    model = build(upsample_cfg=upsample_cfg).eval()
    path = tmp_path / 'model.onnx'
    shapes = tuple({2: f'h{level}', 3: f'w{level}'} for level in range(3))
    export_onnx(model, (features([(17, 23), (9, 12), (5, 6)]),), path, (shapes,))

    content = onnx.load(path)
    onnx.checker.check_model(content, full_check=True)
    assert {node.domain for node in content.graph.node} == {''}
    assert not content.functions
    assert [(x.domain, x.version) for x in content.opset_import] == [('', 18)]
    session = onnxruntime.InferenceSession(path)
    assert [x.shape[2:] for x in session.get_inputs()] == [[f'h{i}', f'w{i}'] for i in range(3)]
    sizes = SIZES if upsample_cfg['type'] == 'fade' else SIZES[:-1]
    for x in map(features, sizes):
        feed = {i.name: v.numpy() for i, v in zip(session.get_inputs(), x, strict=True)}
        ours = session.run(None, feed)
        with torch.no_grad():
            theirs = model(x)
        theirs = theirs if isinstance(theirs, tuple) else (theirs,)
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a, b.numpy(), rtol=0, atol=1e-4)


class _Segmentor(nn.Module):
    """Returns what it is given to encode."""

    def __init__(self, **kwargs):
        super().__init__()
        from mmseg.models import SegDataPreProcessor

        self.data_preprocessor = SegDataPreProcessor(**kwargs)

    def encode_decode(self, image, metas):
        assert metas[0]['img_shape'] == image.shape[2:]
        return image


@pytest.mark.parametrize('bgr_to_rgb', [True, False])
@pytest.mark.parametrize('normalisation', [{}, dict(mean=[1, 2, 3], std=[4, 5, 6])], ids=len)
def test_an_exported_segmentor_preprocesses_as_the_host(bgr_to_rgb, normalisation):
    segmentor = _Segmentor(bgr_to_rgb=bgr_to_rgb, **normalisation)
    image = torch.randint(0, 256, (3, 6, 7), dtype=torch.uint8)
    expected = segmentor.data_preprocessor({'inputs': [image]})['inputs']
    ours = ExportedSegmentor(segmentor)(image[None].float())
    torch.testing.assert_close(ours, expected)


def test_a_file_is_replaced_only_when_all_went_well(tmp_path):
    path = tmp_path / 'model.onnx'
    path.write_text('old')
    with pytest.raises(FileNotFoundError), replaced_when_done(path):
        (tmp_path / 'missing').read_text()
    assert path.read_text() == 'old'
    with replaced_when_done(path) as temporary, open(temporary, 'w') as file:
        file.write('new')
    assert path.read_text() == 'new'
    assert [x.name for x in tmp_path.iterdir()] == ['model.onnx']


@pytest.mark.parametrize(
    ('name', 'message'),
    [('model.pth', 'ends in .onnx, got .*model.pth'), ('no/model.onnx', 'there is no folder')],
)
def test_wrong_paths_are_refused(name, message, tmp_path):
    with pytest.raises(SetupError, match=message):
        check_onnx_path(tmp_path / name)


def test_an_old_opset_is_refused(tmp_path):
    with pytest.raises(SetupError, match='opset must be at least 18, got 17'):
        export_onnx(nn.Identity(), (torch.zeros(2),), tmp_path / 'x.onnx', ({0: 'n'},), opset=17)


@pytest.mark.parametrize('size', [1, 2, 6, (2, 5)])
@pytest.mark.parametrize('shape', [(7, 9), (12, 6), (13, 31)])
def test_pooling_by_products_is_adaptive_pooling(size, shape):
    x = torch.randn(2, 3, *shape, dtype=torch.float64)
    torch.testing.assert_close(AveragePool(size)(x), nn.AdaptiveAvgPool2d(size)(x))
