"""IndexNet against its definition, point by point, and the authors' names and counts."""

import pytest
import torch

from fade_mm.upsamplers import IndexNet
from tests.layers import SIZES, assert_same, features, parameters, randomised

BLOCKS = [dict(nonlinear=a, context=b) for a in (True, False) for b in (True, False)]
M2O = dict(network='m2o', nonlinear=False, context=False)


def indices(w, block, patch):
    """The outputs of an index block for a patch ``(N, C, k, k)``."""
    if f'{block}.weight' in w:
        return torch.einsum('ocij,ncij->no', w[f'{block}.weight'], patch)
    x = torch.einsum('ocij,ncij->no', w[f'{block}.0.weight'], patch)
    if f'{block}.3.weight' not in w:
        return x
    std = (w[f'{block}.1.running_var'] + 1e-5).sqrt()
    x = (x - w[f'{block}.1.running_mean']) / std * w[f'{block}.1.weight'] + w[f'{block}.1.bias']
    return x.clamp(0, 6) @ w[f'{block}.3.weight'][:, :, 0, 0].T


def by_points(w, en, de, network, context):
    n, c, h, width = en.shape
    size, before = (4, 1) if context else (2, 0)
    padded = en.new_zeros(n, c, h + 6, width + 6)
    padded[:, :, 2 : 2 + h, 2 : 2 + width] = en
    out = torch.zeros(n, de.shape[1], h, width, dtype=en.dtype)
    step = 1 if en.shape[2:] == de.shape[2:] else 2
    for i in range(h):
        for j in range(width):
            top, left = 2 * (i // 2) - before + 2, 2 * (j // 2) - before + 2
            patch = padded[:, :, top : top + size, left : left + size]
            phase = 2 * (i % 2) + j % 2
            if network == 'holistic':
                index = indices(w, 'index_net.indexnet', patch)[:, [phase]]
            else:
                index = indices(w, f'index_net.indexnet{phase + 1}', patch)
            low = [min(a // step, b - 1) for a, b in zip((i, j), de.shape[2:], strict=True)]
            out[:, :, i, j] = index.sigmoid() * de[:, :, low[0], low[1]]
    return out


@pytest.mark.parametrize('network', ['holistic', 'm2o'])
@pytest.mark.parametrize('block', BLOCKS, ids=str)
@pytest.mark.parametrize('size', SIZES, ids=str)
def test_matches_the_definition(network, block, size):
    up = randomised(IndexNet(3, network=network, **block))

    def definition(w, en, de):
        return by_points(w, en, de, network, block['context'])

    assert_same(up, definition, *features(size, 3))


def test_one_index_serves_any_number_of_channels():
    up = randomised(IndexNet(3, 5))
    en, de = features((4, 6, 2, 3), 3, 5)
    assert_same(up, lambda w, *x: by_points(w, *x, 'holistic', True), en, de)


def test_published_parameter_counts():
    assert parameters(IndexNet(256)) == 2_100_224
    assert round(6 * parameters(IndexNet(256, **M2O)) / 1e6, 2) == 6.29


def test_parameters_have_the_authors_names():
    assert set(dict(IndexNet(4).named_parameters())) == {
        'index_net.indexnet.0.weight',
        'index_net.indexnet.1.weight',
        'index_net.indexnet.1.bias',
        'index_net.indexnet.3.weight',
    }
    assert set(IndexNet(4, nonlinear=False).state_dict()) == {'index_net.indexnet.weight'}
    trained = IndexNet(256, **M2O).state_dict()
    assert set(trained) == {f'index_net.indexnet{i}.0.weight' for i in range(1, 5)}
    assert {x.shape for x in trained.values()} == {(256, 256, 2, 2)}


@pytest.mark.parametrize(
    ('arguments', 'error', 'message'),
    [
        (dict(in_channels_en=0), ValueError, 'in_channels_en must be at least 1, got 0'),
        (dict(in_channels_en=4, scale_factor=3), ValueError, 'by 2, got scale_factor=3'),
        (dict(in_channels_en=4, network='o2o'), ValueError, "one of holistic, m2o, got 'o2o'"),
        (
            dict(in_channels_en=4, in_channels_de=8, network='m2o'),
            ValueError,
            'got 4 and 8; use network',
        ),
    ],
)
def test_wrong_arguments_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        IndexNet(**arguments)
