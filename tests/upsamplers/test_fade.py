"""FADE and FADE-Lite against the formulas of the papers and the authors' names."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fade_mm.upsamplers import CARAFE, FADE, FADELite
from tests import definition
from tests.layers import parameters, randomised

L2H = {
    'gate_generator.conv.weight',
    'gate_generator.conv.bias',
    'ker_generator.compressor_en.weight',
    'ker_generator.compressor_en.bias',
    'ker_generator.compressor_de.weight',
    'ker_generator.content_encoder.weight',
    'ker_generator.content_encoder.bias',
}
H2L = {
    'ker_generator.compressor_en.weight': 'kernel_generator.conv1_en.weight',
    'ker_generator.compressor_en.bias': 'kernel_generator.conv1_en.bias',
    'ker_generator.compressor_de.weight': 'kernel_generator.conv1_de.weight',
    'ker_generator.content_encoder.weight': 'kernel_generator.conv2_kernels',
    'ker_generator.content_encoder.bias': 'kernel_generator.conv2_bias',
}


def by_the_formula(up, en, de, scale_factor=2):
    """Section 1 of the paper's equations, on the weights of ``up``."""
    w = up.state_dict()
    groups = up.ker_generator.content_encoder.groups

    def conv3x3(x):
        weight, bias = (w[f'ker_generator.content_encoder.{n}'] for n in ('weight', 'bias'))
        return F.conv2d(x, weight, bias, padding=1, groups=groups)

    en_weight, en_bias = (w[f'ker_generator.compressor_en.{n}'] for n in ('weight', 'bias'))
    embedded_en = F.conv2d(en, en_weight, en_bias)
    embedded_de = F.conv2d(de, w['ker_generator.compressor_de.weight'])
    gate = None
    if up.gate_generator is not None:
        gate = F.conv2d(de, w['gate_generator.conv.weight'], w['gate_generator.conv.bias'])
    return definition.gated_reassemble(
        de, conv3x3(embedded_en), conv3x3(embedded_de), gate, en, scale_factor
    )


@pytest.mark.parametrize(
    ('module', 'count'),
    [
        (FADE(256), 47_514),
        (FADELite(256), 13_332),
        (FADE(256, gating=False), 47_514 - 257),
        (CARAFE(256), 74_148),
    ],
)
def test_published_parameter_counts(module, count):
    assert parameters(module) == count


@pytest.mark.parametrize('cls', [FADE, FADELite])
@pytest.mark.parametrize('gating', [True, False])
@pytest.mark.parametrize('size', [(8, 12, 4, 6), (7, 9, 4, 5), (7, 9, 3, 4), (1, 1, 1, 1)])
def test_matches_the_formula(cls, gating, size):
    h, w, H, W = size
    channels_de = 6 if gating else 4
    up = randomised(cls(6, channels_de, gating=gating))
    en = torch.randn(2, 6, h, w, dtype=torch.float64, requires_grad=True)
    de = torch.randn(2, channels_de, H, W, dtype=torch.float64, requires_grad=True)
    ours, theirs = up(en, de), by_the_formula(up, en, de)
    torch.testing.assert_close(ours, theirs)
    for a, b in zip(
        torch.autograd.grad(ours.square().sum(), (en, de)),
        torch.autograd.grad(theirs.square().sum(), (en, de)),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_other_scale_factor_kernel_and_embedding():
    up = randomised(FADE(4, scale_factor=3, up_kernel_size=3, embedding_dim=7))
    en, de = torch.randn(1, 4, 8, 7).double(), torch.randn(1, 4, 3, 2).double()
    torch.testing.assert_close(up(en, de), by_the_formula(up, en, de, scale_factor=3))


@pytest.mark.parametrize('cls', [FADE, FADELite])
def test_equals_the_authors_high_to_low_formulation(cls):
    """Stride-2 convolutions of ``E`` padded four ways, plus that of ``D``, interleaved."""
    up = randomised(cls(6))
    en, de = torch.randn(1, 6, 8, 12).double(), torch.randn(1, 6, 4, 6).double()
    generator = up.ker_generator
    encoder = generator.content_encoder
    embedded = generator.compressor_en(en)
    low = encoder(generator.compressor_de(de))
    phases = []
    for top in (1, 0):
        for left in (1, 0):
            padded = F.pad(embedded, (left, 1 - left, top, 1 - top))
            phases.append(
                F.conv2d(padded, encoder.weight, encoder.bias, 2, groups=encoder.groups) + low
            )
    logits = F.pixel_shuffle(torch.stack(phases, dim=2).flatten(1, 2), 2)
    expected = definition.gated_reassemble(de, logits, None, up.gate_generator(de), en)
    torch.testing.assert_close(up(en, de), expected)


@pytest.mark.parametrize('cls', [FADE, FADELite])
def test_parameters_have_the_authors_names(cls):
    assert set(cls(8).state_dict()) == L2H


@pytest.mark.parametrize('prefix', ['', 'neck.up.'])
@pytest.mark.parametrize('cls', [FADE, FADELite])
def test_high_to_low_names_load_strictly(cls, prefix):
    source, target = randomised(cls(8)), cls(8).double()
    released = {prefix + H2L.get(name, name): x for name, x in source.state_dict().items()}
    host = target
    for name in reversed(prefix.split('.')[:-1]):
        host = nn.ModuleDict({name: host})
    host.load_state_dict(released, strict=True)
    for name, x in target.state_dict().items():
        assert torch.equal(x, source.state_dict()[name])


def test_starts_xavier_uniform_with_zero_biases():
    up = FADE(256)
    for name, p in up.state_dict().items():
        if name.endswith('bias'):
            assert not p.any()
        else:
            fan_out, fan_in = p.shape[0] * p[0, 0].numel(), p[0].numel()
            bound = (6 / (fan_in + fan_out)) ** 0.5
            assert p.abs().max() <= bound
            assert p.std().item() == pytest.approx(bound / 3**0.5, rel=0.1)


def test_autocast_keeps_the_dtype_of_de():
    up, en, de = FADE(8), torch.randn(1, 8, 8, 8), torch.randn(1, 8, 4, 4)
    exact = up(en, de)
    with torch.autocast('cpu', torch.bfloat16):
        out = up(en, de)
        assert up(en.bfloat16(), de.bfloat16()).dtype == torch.bfloat16
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, exact, atol=0.05, rtol=0.05)
    out.sum().backward()
    assert all(p.grad.dtype == torch.float32 for p in up.parameters())


def test_half_precision_layer():
    up = FADE(8).bfloat16()
    out = up(torch.randn(1, 8, 7, 8).bfloat16(), torch.randn(1, 8, 4, 4).bfloat16())
    assert out.dtype == torch.bfloat16
    assert out.shape == (1, 8, 7, 8)


def test_channels_last_layer():
    up, en, de = FADE(8), torch.randn(2, 8, 8, 8), torch.randn(2, 8, 4, 4)
    last = up.to(memory_format=torch.channels_last)(
        en.to(memory_format=torch.channels_last), de.to(memory_format=torch.channels_last)
    )
    assert last.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(last, up(en, de))


def test_compiles_in_one_graph():
    up, en, de = FADE(4), torch.randn(1, 4, 7, 8), torch.randn(1, 4, 4, 4)
    compiled = torch.compile(up, fullgraph=True, backend='aot_eager', dynamic=True)
    torch.testing.assert_close(compiled(en, de), up(en, de))


def test_trains_under_the_default_compiler():
    up = FADE(4)
    en, de = torch.randn(1, 4, 7, 8), torch.randn(1, 4, 4, 4, requires_grad=True)
    eager = torch.autograd.grad(up(en, de).square().sum(), [de, *up.parameters()])
    compiled = torch.compile(up, fullgraph=True)
    ours = torch.autograd.grad(compiled(en, de).square().sum(), [de, *up.parameters()])
    torch.testing.assert_close(ours, eager)


@pytest.mark.parametrize('name', ['fade', 'fade_lite'])
def test_registered_in_the_root_and_in_our_scope(name):
    build = pytest.importorskip('mmcv.cnn').build_upsample_layer
    from fade_mm.registry import MODELS

    layer = build(dict(type=name), in_channels_en=8, in_channels_de=8)
    assert type(layer) is MODELS.get(name)


@pytest.mark.parametrize(
    ('arguments', 'error', 'message'),
    [
        (
            dict(in_channels_en=8, in_channels_de=4, gating=True),
            ValueError,
            'gating=True joins.*in_channels_en=8 and in_channels_de=4',
        ),
        (dict(in_channels_en=0), ValueError, 'in_channels_en must be at least 1, got 0'),
        (dict(in_channels_en='8'), TypeError, "in_channels_en must be an int, got '8'"),
        (dict(in_channels_en=8, up_kernel_size=4), ValueError, 'up_kernel_size must be odd, got 4'),
        (dict(in_channels_en=8, scale_factor=0), ValueError, 'scale_factor must be at least 1'),
        (dict(in_channels_en=8, gating='no'), TypeError, "gating must be True or False, got 'no'"),
        (dict(in_channels_en=8, embedding_dim=0), ValueError, 'embedding_dim must be at least 1'),
    ],
)
def test_wrong_arguments_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        FADE(**arguments)


@pytest.mark.parametrize(
    ('en', 'de', 'error', 'message'),
    [
        ((1, 8, 8, 8), (1, 8, 3, 4), ValueError, r'\(1, 8, 8, 8\) and \(1, 8, 3, 4\)'),
        ((1, 8, 8, 8), (2, 8, 4, 4), ValueError, 'same batch size'),
        ((1, 7, 8, 8), (1, 8, 4, 4), ValueError, r'en must have 8 channels.*\(1, 7, 8, 8\)'),
        ((1, 8, 8, 8), (1, 9, 4, 4), ValueError, r'de must have 8 channels.*\(1, 9, 4, 4\)'),
        ((8, 8, 8), (8, 4, 4), ValueError, r'en must have shape \(N, C, H, W\)'),
    ],
)
def test_tensors_that_do_not_fit_are_refused(en, de, error, message):
    with pytest.raises(error, match=message):
        FADE(8)(torch.randn(en), torch.randn(de))


def test_another_dtype_than_the_layers_is_refused():
    with pytest.raises(TypeError, match=r'en is torch\.float64, but the layer is torch\.float32'):
        FADE(8)(torch.randn(1, 8, 8, 8).double(), torch.randn(1, 8, 4, 4))


def test_tensors_on_two_devices_are_refused():
    with pytest.raises(ValueError, match='same device, got meta and cpu'):
        FADE(8)(torch.randn(1, 8, 8, 8, device='meta'), torch.randn(1, 8, 4, 4))
