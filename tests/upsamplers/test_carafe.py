"""CARAFE against mmcv's layer and the definition of its reassembly."""

import pytest
import torch

from fade_mm.upsamplers import CARAFE
from tests import definition

VARIANTS = [
    dict(channels=8, scale_factor=2),
    dict(channels=8, scale_factor=3, up_kernel=3),
    dict(channels=8, scale_factor=2, up_group=4, compressed_channels=5),
    dict(channels=4, scale_factor=2, encoder_kernel=5, encoder_dilation=2),
]


@pytest.mark.parametrize('arguments', VARIANTS, ids=str)
def test_matches_mmcv_kernels_and_the_definition(arguments):
    """mmcv makes the kernels; its reassembly has no CPU kernel, so the definition stands in."""
    torch.manual_seed(0)
    theirs = pytest.importorskip('mmcv.ops').CARAFEPack(**arguments)
    for p in theirs.parameters():
        torch.nn.init.normal_(p, std=0.3)
    ours = CARAFE(**arguments)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    x = torch.randn(2, arguments['channels'], 5, 6)
    kernels = theirs.kernel_normalizer(theirs.content_encoder(theirs.channel_compressor(x)))
    groups = arguments.get('up_group', 1)
    expected = [
        definition.reassemble(features, group, arguments['scale_factor'])
        for features, group in zip(x.chunk(groups, 1), kernels.chunk(groups, 1), strict=True)
    ]
    torch.testing.assert_close(ours(x), torch.cat(expected, dim=1))


def test_starts_like_mmcv():
    torch.manual_seed(0)
    ours = CARAFE(64).requires_grad_(False)
    assert ours.content_encoder.weight.std().item() == pytest.approx(0.001, rel=0.1)
    bound = (6 / (64 + 64)) ** 0.5
    assert ours.channel_compressor.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.1)
    assert not ours.content_encoder.bias.any()
    assert not ours.channel_compressor.bias.any()


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(channels=8, up_group=3), 'up_group must divide channels, got 3 and 8'),
        (dict(channels=8, up_kernel=4), 'up_kernel must be odd, got 4'),
        (dict(channels=8, scale_factor=0), 'scale_factor must be at least 1, got 0'),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        CARAFE(**arguments)


def test_empty_batch():
    assert CARAFE(8, up_group=2)(torch.randn(0, 8, 3, 3)).shape == (0, 8, 6, 6)


def test_wrong_channels_are_refused():
    with pytest.raises(ValueError, match='de must have 8 channels'):
        CARAFE(8)(torch.randn(1, 4, 5, 5))
