"""A2U against its definition and the authors' names and counts."""

import pytest
import torch
from torch import nn

from fade_mm.upsamplers import A2U
from tests.layers import SIZES, assert_same, features, parameters, randomised

from .definitions import a2u


@pytest.mark.parametrize('size', SIZES, ids=str)
@pytest.mark.parametrize('kernel_size', [3, 5])
def test_matches_the_definition(size, kernel_size):
    up = randomised(A2U(4, up_kernel_size=kernel_size, num_groups=2))
    assert_same(up, lambda w, *x: a2u(w, *x, 2, kernel_size), *features(size, 4))


def test_groups_of_a_single_value():
    up = randomised(A2U(4, num_groups=4))
    assert_same(up, lambda w, *x: a2u(w, *x, 4), *features((2, 1, 1, 1), 4, batch=1))


def test_channels_may_differ():
    up = randomised(A2U(4, 3, num_groups=2))
    assert_same(up, lambda w, *x: a2u(w, *x, 2), *features((8, 6, 4, 3), 4, 3))


def test_the_images_of_a_batch_do_not_see_each_other():
    up = A2U(32).eval()
    en, de = torch.randn(3, 32, 8, 6), torch.randn(3, 32, 4, 3)
    alone = torch.cat([up(en[i : i + 1], de[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(up(en, de), alone)


def test_published_parameter_counts():
    """+0.12M in SegFormer-B1 (six) with the branch, +0.06M (six) and +0.03M (three) without."""
    assert parameters(A2U(256, downsampling=True)) == 20_042
    lean = parameters(A2U(256))
    assert (round(6 * lean / 1e6, 2), round(3 * lean / 1e6, 2)) == (0.06, 0.03)


@pytest.mark.parametrize('downsampling', [True, False])
def test_parameters_have_the_authors_names(downsampling):
    layers = {'bnu.0', 'bnv.0', 'bconv_UP.1', 'bconv_U.1', 'bconv_V.1'}
    if downsampling:
        layers.add('bconv_DP.1')
    assert set(A2U(32, downsampling=downsampling).state_dict()) == {
        f'kernel_gen.{layer}.{name}' for layer in layers for name in ('weight', 'bias')
    }


def test_the_branch_that_upsampling_never_uses_is_dropped_with_a_word():
    old = {f'up.{name}': x for name, x in A2U(32, downsampling=True).state_dict().items()}
    model = nn.ModuleDict(dict(up=A2U(32)))
    with pytest.warns(UserWarning, match='weights for down-sampling are not loaded'):
        model.load_state_dict(old, strict=True)
    assert torch.equal(
        model['up'].kernel_gen.bconv_U[1].weight, old['up.kernel_gen.bconv_U.1.weight']
    )


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(in_channels_en=32, scale_factor=4), 'by 2, got scale_factor=4'),
        (dict(in_channels_en=48), 'num_groups must divide in_channels_en, got 32 and 48'),
        (dict(in_channels_en=32, up_kernel_size=4), 'up_kernel_size must be odd, got 4'),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        A2U(**arguments)
