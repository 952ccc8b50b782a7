"""Kernels by group of channels: each group is upsampled as by a layer of its own."""

import inspect

import pytest
import torch

from fade_mm.upsamplers import A2U, CARAFE, FADE, SAPA, UPSAMPLERS, FADELite, build_upsampler
from tests.layers import EVERY, SIZES, assert_same, features, parameters, randomised

from .definitions import DEFINITIONS

GROUPED = [
    cfg
    for cfg in EVERY
    if 'up_group' in inspect.signature(UPSAMPLERS[cfg['type']]).parameters
    and cfg['type'] not in ('sapa_i', 'sapa')  # has none, and is SAPA-B
]
"""Configs of all whose kernels are made from weights that groups can have for themselves."""
grouped = pytest.mark.parametrize(
    'cfg',
    [*GROUPED, dict(type='fade', kernel_generation='semi-shift-h2l')],
    ids=lambda cfg: '-'.join(map(str, cfg.values())),
)


def of_one_group(w, single, groups, g):
    """A group's state dict: its part of what differs in shape from a layer's without groups."""
    single = single.state_dict()
    return {
        name: x if x.shape == single[name].shape else x.chunk(groups)[g] for name, x in w.items()
    }


def by_group(definition, single, groups):
    """The definition of a layer with groups."""

    def defined(w, en, de):
        outputs = [
            definition(of_one_group(w, single, groups, g), en, de).chunk(groups, 1)[g]
            for g in range(groups)
        ]
        return torch.cat(outputs, dim=1)

    return defined


def test_the_papers_operators_have_groups():
    names = {cfg['type'] for cfg in GROUPED}
    assert names > {'fade', 'fade_lite', 'fade_b2', 'a2u', 'carafe', 'sapa_b', 'sapa_g'}


@grouped
@pytest.mark.parametrize('size', [(5, 6, 2, 3), (3, 4, 3, 4)], ids=str)
def test_groups_are_upsampled_as_by_layers_of_their_own(cfg, size):
    up = randomised(build_upsampler(dict(cfg, up_group=2), 4, 4))
    definition = by_group(DEFINITIONS[cfg['type']], build_upsampler(cfg, 4, 4), 2)
    assert_same(up, definition, *features(size, 4))


@pytest.mark.parametrize('groups', [2, 3, 6])
def test_groups_of_a_decoder_feature_with_other_channels(groups):
    up = randomised(FADE(4, 6, up_group=groups))
    definition = by_group(DEFINITIONS['fade_b4'], FADE(4, 6), groups)
    assert_same(up, definition, *features(SIZES[1], 4, 6))


@pytest.mark.parametrize(
    ('up', 'count'),
    [
        (FADE(256, up_group=8), 148_489),
        (FADELite(256, up_group=2), 2 * (13_332 - 257) + 257),  # all but the gate, for each
        (SAPA(256, up_group=2), parameters(SAPA(256)) + 2 * 32 * 257),
        (A2U(256, up_group=2), parameters(A2U(256)) + 36 * 257),
    ],
    ids=lambda x: type(x).__name__,
)
def test_parameter_counts(up, count):
    assert parameters(up) == count


@grouped
def test_a_groups_weights_start_as_those_of_a_layer_of_its_own(cfg):
    torch.manual_seed(0)
    single = build_upsampler(cfg, 64, 64)
    w = build_upsampler(dict(cfg, up_group=8), 64, 64).state_dict()
    expected = single.state_dict()
    assert any(x.shape != expected[name].shape for name, x in w.items())
    for g in range(8):
        for name, x in of_one_group(w, single, 8, g).items():
            if name.endswith('weight') and expected[name].std():
                assert x.std().item() == pytest.approx(expected[name].std().item(), rel=0.15), name
            elif not expected[name].any():
                assert not x.any(), name


@pytest.mark.parametrize('cls', [FADE, FADELite, A2U, SAPA, CARAFE])
def test_groups_divide_the_channels(cls):
    name = 'channels' if cls is CARAFE else 'in_channels_de'
    with pytest.raises(ValueError, match=f'^up_group must divide {name}, got 3 and 32$'):
        cls(32, up_group=3)
    with pytest.raises(ValueError, match='up_group must be at least 1, got 0'):
        cls(32, up_group=0)


def test_inner_products_have_no_groups():
    with pytest.raises(ValueError, match=r"similarity='inner' .* up_group must be 1, got 2; use"):
        SAPA(8, similarity='inner', up_group=2)


@grouped
def test_kernels_of_groups_lie_along_the_batch(cfg):
    """Those of an image in turn, each as of a layer of its own."""
    up, single = build_upsampler(dict(cfg, up_group=2), 4, 4), build_upsampler(cfg, 4, 4)
    w = randomised(up).state_dict()
    en, de = features(SIZES[0], 4)
    (kernels,) = (view.tensor for view in up.views(en, de) if view.name == 'kernels')
    taps = 9 if cfg['type'].startswith('a2u') else 25
    assert kernels.shape == (2 * 2, taps, *en.shape[2:])
    for g in range(2):
        single.double().load_state_dict(of_one_group(w, single, 2, g))
        torch.testing.assert_close(kernels[g::2], single.eval().views(en, de)[0].tensor)


def test_multiply_adds_are_those_of_more_kernels():
    pytest.importorskip('mmengine')
    from fade_mm.analysis.flops import count_as_published

    en, de = torch.rand(1, 16, 8, 12), torch.rand(1, 16, 4, 6)
    one, four = (count_as_published(FADE(16, up_group=g), (en, de)) for g in (1, 4))
    assert four - one == 3 * 25 * 9 * 64 * (8 * 12 + 4 * 6)
