"""SAPA against its definition, point by point, and the authors' names and counts."""

import pytest
import torch

from fade_mm.upsamplers import SAPA
from tests.layers import SIZES, assert_same, features, parameters, randomised

NORMS = {f'norm_{x}.{name}' for x in 'xy' for name in ('weight', 'bias')}


def layer_norm(w, name, x):
    x = (x - x.mean()) / (x.var(unbiased=False) + 1e-5).sqrt()
    return x * w[f'{name}.weight'] + w[f'{name}.bias']


def linear(w, name, x):
    return w[f'{name}.weight'] @ x + w[f'{name}.bias']


def query_of(w, similarity, en, de):
    """The query of a high-resolution point and the low-resolution point that it lies in."""
    y = layer_norm(w, 'norm_y', en)
    if similarity == 'inner':
        return y
    if similarity == 'bilinear':
        return linear(w, 'q', y)
    gate = linear(w, 'gate', layer_norm(w, 'norm_x', de)).sigmoid()
    return gate * linear(w, 'qy', y) + (1 - gate) * linear(w, 'qx', de)


def by_points(w, en, de, similarity, kernel_size=5, scale_factor=2):
    n, _, h, width = en.shape
    H, W = de.shape[2:]
    step = 1 if (h, width) == (H, W) else scale_factor
    out = torch.zeros(n, de.shape[1], h, width, dtype=en.dtype)
    reach = range(-(kernel_size // 2), kernel_size // 2 + 1)
    for b in range(n):
        keys = {}
        for p in range(H):
            for q in range(W):
                key = layer_norm(w, 'norm_x', de[b, :, p, q])
                keys[p, q] = key if similarity == 'inner' else linear(w, 'k', key)
        for i in range(h):
            for j in range(width):
                p, q = min(i // step, H - 1), min(j // step, W - 1)
                query = query_of(w, similarity, en[b, :, i, j], de[b, :, p, q])
                points = [(p + u, q + v) for u in reach for v in reach]
                scores = [query @ keys[at] if at in keys else query.sum() * 0 for at in points]
                kernel = torch.stack(scores).softmax(0)
                for weight, at in zip(kernel, points, strict=True):
                    if at in keys:
                        out[b, :, i, j] += weight * de[b, :, at[0], at[1]]
    return out


@pytest.mark.parametrize('similarity', ['inner', 'bilinear', 'gated'])
@pytest.mark.parametrize('size', SIZES, ids=str)
def test_matches_the_definition(similarity, size):
    up = randomised(SAPA(3, up_kernel_size=3, embedding_dim=4, similarity=similarity))
    assert_same(up, lambda w, *x: by_points(w, *x, similarity, 3), *features(size, 3, batch=1))


@pytest.mark.parametrize('size', [(6, 9, 2, 3), (7, 8, 3, 3), (7, 8, 2, 2)], ids=str)
def test_other_scale_factor_and_channels(size):
    up = randomised(SAPA(3, 2, scale_factor=3, embedding_dim=4, similarity='gated'))
    inputs = features(size, 3, 2)
    assert_same(up, lambda w, *x: by_points(w, *x, 'gated', 5, 3), *inputs)


@pytest.mark.parametrize(
    ('similarity', 'count', 'six'),
    [('inner', 1_024, 0.01), ('bilinear', 17_472, 0.1), ('gated', 25_953, 0.16)],
)
def test_parameter_counts(similarity, count, six):
    """Published are +0.00, +0.1 and +0.1 million for six in SegFormer-B1."""
    assert parameters(SAPA(256, similarity=similarity)) == count
    assert round(6 * count / 1e6, 2) == six


@pytest.mark.parametrize(
    ('similarity', 'layers'),
    [('inner', ''), ('bilinear', 'q k'), ('gated', 'qy qx gate k')],
)
def test_parameters_have_the_authors_names(similarity, layers):
    names = {f'{layer}.{name}' for layer in layers.split() for name in ('weight', 'bias')}
    assert set(SAPA(4, similarity=similarity).state_dict()) == NORMS | names


def test_starts_truncated_normal():
    up = SAPA(256, similarity='gated').requires_grad_(False)
    assert up.k.weight.std() == pytest.approx(0.02, rel=0.1)
    assert not any(up.state_dict()[f'{name}.bias'].any() for name in ('qy', 'qx', 'gate', 'k'))


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(in_channels_en=4, similarity='cosine'), "inner, bilinear, gated, got 'cosine'"),
        (dict(in_channels_en=4, in_channels_de=8, similarity='inner'), 'in_channels_de=8; use'),
        (dict(in_channels_en=4, embedding_dim=0), 'embedding_dim must be at least 1, got 0'),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        SAPA(**arguments)
