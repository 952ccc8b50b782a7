"""IndexNet against its definition, point by point, and the authors' names and counts."""

import pytest

from fade_mm.upsamplers import IndexNet
from tests.layers import SIZES, assert_same, features, parameters, randomised

from .definitions import indexnet

BLOCKS = [dict(nonlinear=a, context=b) for a in (True, False) for b in (True, False)]
M2O = dict(network='m2o', nonlinear=False, context=False)


@pytest.mark.parametrize('network', ['holistic', 'm2o'])
@pytest.mark.parametrize('block', BLOCKS, ids=str)
@pytest.mark.parametrize('size', SIZES, ids=str)
def test_matches_the_definition(network, block, size):
    up = randomised(IndexNet(3, network=network, **block))

    def definition(w, en, de):
        return indexnet(w, en, de, network, block['context'])

    assert_same(up, definition, *features(size, 3))


def test_one_index_serves_any_number_of_channels():
    up = randomised(IndexNet(3, 5))
    en, de = features((4, 6, 2, 3), 3, 5)
    assert_same(up, lambda w, *x: indexnet(w, *x, 'holistic', True), en, de)


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
