"""SAPA against its definition, point by point, and the authors' names and counts."""

import pytest

from fade_mm.upsamplers import SAPA
from tests.layers import SIZES, assert_same, features, parameters, randomised

from .definitions import sapa

NORMS = {f'norm_{x}.{name}' for x in 'xy' for name in ('weight', 'bias')}


@pytest.mark.parametrize('similarity', ['inner', 'bilinear', 'gated'])
@pytest.mark.parametrize('size', SIZES, ids=str)
def test_matches_the_definition(similarity, size):
    up = randomised(SAPA(3, up_kernel_size=3, embedding_dim=4, similarity=similarity))
    assert_same(up, lambda w, *x: sapa(w, *x, similarity, 3), *features(size, 3, batch=1))


@pytest.mark.parametrize('size', [(6, 9, 2, 3), (7, 8, 3, 3), (7, 8, 2, 2)], ids=str)
def test_other_scale_factor_and_channels(size):
    up = randomised(SAPA(3, 2, scale_factor=3, embedding_dim=4, similarity='gated'))
    inputs = features(size, 3, 2)
    assert_same(up, lambda w, *x: sapa(w, *x, 'gated', 5, 3), *inputs)


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
    assert up.k.weight.std().item() == pytest.approx(0.02, rel=0.1)
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
