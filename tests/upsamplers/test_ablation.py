"""FADE's ablation: what the kernels come from, how they are made, how the encoder joins."""

import pytest
import torch
from torch.func import functional_call

from fade_mm.upsamplers import FADE, FADELite, build_upsampler
from tests.layers import SIZES, assert_same, features, parameters, randomised

from .definitions import FORMULAS

ROWS = {
    'b1': dict(kernel_source='encoder', fusion='none'),
    'b2': dict(kernel_source='decoder', fusion='none'),
    'b3': dict(kernel_generation='naive', fusion='none'),
    'b4': dict(fusion='none'),
    'b5': dict(fusion='skip'),
    'b6': dict(),
}


@pytest.mark.parametrize('row', FORMULAS)
@pytest.mark.parametrize('size', SIZES, ids=str)
def test_rows_match_their_formulas(row, size):
    up = randomised(FADE(4, embedding_dim=3, up_kernel_size=3, **ROWS[row]))
    assert_same(up, FORMULAS[row], *features(size, 4))


@pytest.mark.parametrize('size', [(8, 12, 4, 6), (7, 9, 4, 5), (7, 9, 3, 4)], ids=str)
def test_kernels_from_the_decoder_are_carafes(size):
    carafe = build_upsampler(dict(type='carafe'), 4, 4).double()
    torch.nn.init.normal_(carafe.layer.content_encoder.weight)
    up = FADE(4, **ROWS['b2']).double()
    up.ker_generator.load_state_dict(carafe.layer.state_dict(), strict=True)
    en, de = features(size, 4)
    torch.testing.assert_close(up(en, de), carafe(en, de))


def test_kernels_from_the_decoder_start_as_carafes():
    carafe = build_upsampler(dict(type='carafe'), 64, 64)
    up = FADE(64, **ROWS['b2'])
    for name, x in carafe.layer.state_dict().items():
        assert up.ker_generator.state_dict()[name].std().item() == pytest.approx(
            x.std().item(), rel=0.1
        )
    assert parameters(up) == parameters(carafe)


@pytest.mark.parametrize('scale_factor', [2, 3])
@pytest.mark.parametrize('rounding', [(0, 0), (-1, 0), (0, -1), (1, 1), None], ids=str)
def test_high_to_low_equals_low_to_high(scale_factor, rounding):
    low_to_high = FADE(4, scale_factor=scale_factor)
    high_to_low = FADE(4, scale_factor=scale_factor, kernel_generation='semi-shift-h2l')
    size = (4, 3, 4, 3)  # equal sizes
    if rounding is not None:
        size = (4 * scale_factor + rounding[0], 3 * scale_factor + rounding[1], 4, 3)

    def definition(w, en, de):
        return functional_call(low_to_high, w, (en, de))

    assert_same(randomised(high_to_low), definition, *features(size, 4))


def test_kernels_from_both_have_the_same_names():
    names = set(FADE(4).state_dict())
    for generation in ('semi-shift-h2l', 'naive'):
        assert set(FADE(4, kernel_generation=generation).state_dict()) == names


@pytest.mark.parametrize(
    ('arguments', 'fusion'),
    [
        (dict(), 'gate'),
        (dict(gating=True), 'gate'),
        (dict(gating=False), 'none'),
        (dict(fusion='skip'), 'skip'),
        (dict(gating=False, fusion='none'), 'none'),
        (dict(skip_is_added=True), 'none'),
        (dict(skip='concatenated', skip_is_added=False), 'gate'),
        (dict(skip_is_added=True, gating=True), 'gate'),
        (dict(skip_is_added=True, fusion='gate'), 'gate'),
        (dict(skip_is_added=True, fusion='skip'), 'skip'),
    ],
)
@pytest.mark.parametrize('cls', [FADE, FADELite])
def test_fusion_is_what_was_asked_for(cls, arguments, fusion):
    up = cls(4, **arguments)
    assert up.fusion == fusion
    assert (up.gate_generator is not None) == (fusion == 'gate')


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(gating=False, fusion='gate'), "gating=False.*'none' and contradicts fusion='gate'"),
        (dict(gating=True, fusion='skip'), "gating=True.*'gate' and contradicts fusion='skip'"),
        (dict(fusion='add'), "fusion must be 'gate', 'skip' or 'none', got 'add'"),
        (dict(fusion='skip', in_channels_de=8), "fusion='skip' joins.*in_channels_de=8"),
        (dict(kernel_source='en'), "kernel_source='en'.*there are both with semi-shift, both"),
        (dict(kernel_source='encoder', kernel_generation='naive'), "'encoder'.*'naive'; there"),
    ],
)
def test_contradictions_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        FADE(4, **arguments)


@pytest.mark.parametrize('row', ROWS)
def test_rows_are_built_by_config(row):
    up = build_upsampler(dict(type='fade', **ROWS[row]), 8, 8)
    en, de = torch.randn(1, 8, 7, 8), torch.randn(1, 8, 4, 4)
    up(en, de).sum().backward()
    assert all(p.grad is not None for p in up.parameters())
