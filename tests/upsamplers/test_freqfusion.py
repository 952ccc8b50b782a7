"""FreqFusion against its definition, and the authors' names and counts."""

from math import cos, pi

import pytest
import torch

from fade_mm.upsamplers import FreqFusion, build_upsampler
from tests.layers import SIZES, assert_same, features, parameters, randomised

from .definitions import freqfusion

COPIES = {
    'detectors': dict(),
    'Panoptic FPN': dict(feature_resample_norm=False),
    'Mask2Former': dict(hamming_window=False, feature_resample_norm=False),
    'SegNeXt': dict(hamming_window=False, direction_feat='sim'),
    'not resampled': dict(feature_resample=False),
}


class Both(FreqFusion):
    """What `pair` returns, as one tensor."""

    def forward(self, en, de, both=False):
        result = super().forward(en, de, both=True)
        return result if both else torch.cat(result, dim=1)


def defined(w, en, de, copy, scale_factor=2):
    return torch.cat(
        freqfusion(
            w,
            en,
            de,
            copy.get('direction_feat'),
            copy.get('feature_resample_norm', True),
            copy.get('feature_resample', True),
            scale_factor,
        ),
        dim=1,
    )


@pytest.mark.parametrize('copy', COPIES.values(), ids=COPIES)
@pytest.mark.parametrize('size', SIZES, ids=str)
def test_matches_the_definition(copy, size):
    up = randomised(Both(3, 4, feature_resample_group=2, **copy))
    assert_same(up, lambda w, *x: defined(w, *x, copy), *features(size, 3, 4, batch=1))


@pytest.mark.parametrize('size', [(6, 9, 2, 3), (7, 8, 3, 3), (7, 8, 2, 2)], ids=str)
def test_other_scale_factor(size):
    up = randomised(Both(4, scale_factor=3, compressed_channels=16))
    assert_same(up, lambda w, *x: defined(w, *x, {}, 3), *features(size, 4))


def test_without_offsets_points_stay_where_they_are():
    up, still = (FreqFusion(8, feature_resample=x).double() for x in (True, False))
    torch.nn.init.zeros_(up.dysampler.offset.weight)
    torch.nn.init.zeros_(up.dysampler.hr_offset.weight)
    still.load_state_dict(up.state_dict(), strict=False)
    for size in SIZES:
        en, de = features(size, 8)
        torch.testing.assert_close(up(en, de), still(en, de))


def test_alone_it_returns_the_second_of_the_pair():
    up = FreqFusion(8)
    en, de = torch.rand(1, 8, 7, 9), torch.rand(1, 8, 4, 5)
    assert torch.equal(up(en, de), up.pair(en, de)[1])


def test_a_pair_calls_the_hooks():
    up, seen = FreqFusion(8), []
    up.register_forward_hook(lambda module, args, output: seen.append(args))
    en, de = torch.rand(1, 8, 7, 9), torch.rand(1, 8, 4, 5)
    up.pair(en, de)
    assert seen == [(en, de)]


@pytest.mark.parametrize(
    ('copy', 'count'), [('detectors', 104_690), ('Panoptic FPN', 104_434)], ids=str
)
def test_published_parameter_counts(copy, count):
    """Three of either are the +0.3M of Panoptic FPN."""
    assert parameters(FreqFusion(256, **COPIES[copy])) == count
    assert round(3 * count / 1e6, 1) == 0.3


def test_parameters_of_segnexts_two():
    """Levels of 64, 160 and 256 channels; what is merged is concatenated."""
    cfg = dict(type='freqfusion_segnext')
    two = build_upsampler(cfg, 160, 256), build_upsampler(cfg, 64, 160 + 256)
    assert [up.compressed_channels for up in two] == [104, 120]
    assert [parameters(up) for up in two] == [116_146, 141_234]


def test_state_has_the_authors_names_and_shapes():
    up = FreqFusion(256)
    layers = ('hr_channel_compressor', 'lr_channel_compressor', 'content_encoder')
    moving = ('offset', 'direct_scale', 'hr_offset', 'hr_direct_scale', 'norm_hr', 'norm_lr')
    names = [*layers, 'content_encoder2', *(f'dysampler.{name}' for name in moving)]
    expected = {f'{name}.{kind}' for name in names for kind in ('weight', 'bias')}
    buffers = {'hamming_lowpass', 'hamming_highpass', 'dysampler.init_pos'}
    assert set(up.state_dict()) == expected | buffers
    assert up.dysampler.init_pos.shape == (1, 32, 1, 1)
    assert up.dysampler.norm_hr.num_groups == 8
    assert FreqFusion(256, hamming_window=False).hamming_lowpass.tolist() == [1.0]


@pytest.mark.parametrize(('name', 'size'), [('hamming_lowpass', 5), ('hamming_highpass', 3)])
def test_windows_are_those_of_hamming(name, size):
    line = [0.54 - 0.46 * cos(2 * pi * i / (size - 1)) for i in range(size)]
    window = torch.tensor([[[[a * b for a in line] for b in line]]])
    torch.testing.assert_close(getattr(FreqFusion(8), name), window)


def test_starts_as_theirs_runs():
    """Xavier-uniform offsets too, which theirs overwrites small values with."""
    up = FreqFusion(256).requires_grad_(False)
    for encoder in (up.content_encoder, up.content_encoder2):
        assert encoder.weight.std().item() == pytest.approx(0.001, rel=0.1)
    sampler = up.dysampler
    for conv in (up.hr_channel_compressor, sampler.offset, sampler.hr_direct_scale):
        fans = (conv.in_channels + conv.out_channels) * conv.weight[0, 0].numel()
        assert conv.weight.std().item() == pytest.approx((2 / fans) ** 0.5, rel=0.1)
    assert not any(x.any() for name, x in up.state_dict().items() if name.endswith('bias'))


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(in_channels_en=8, direction_feat='cos'), "one of sim_concat, sim, got 'cos'"),
        (dict(in_channels_en=6), 'must divide in_channels_de, got 4 and 6'),
        (dict(in_channels_en=8, compression=0), 'compression must be at least 1, got 0'),
        (dict(in_channels_en=8, compressed_channels=0), 'compressed_channels must be at least 1'),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        FreqFusion(**arguments)
