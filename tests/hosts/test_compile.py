"""A FADE layer, a neck and a head compile in one graph and export with dynamic sizes."""

import pytest
import torch
import torch._dynamo.testing
from torch.export import Dim, export

from fade_mm.hosts.stand_ins import FPN, SegformerHead
from fade_mm.upsamplers import FADE

CHANNELS = [4, 8, 16]
HEAD = dict(in_channels=CHANNELS, in_index=[0, 1, 2], channels=16, num_classes=5)
# From fine to coarse: exact, rounded up, rounded down
SIZES = [
    [(12, 20), (6, 10), (3, 5)],
    [(29, 15), (15, 8), (8, 4)],
    [(29, 15), (14, 7), (7, 3)],
]


def features(sizes, channels=CHANNELS):
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(2, c, *size, generator=generator).requires_grad_()
        for c, size in zip(channels, sizes, strict=False)
    ]


def build(name):
    """A model, and its inputs for the sizes of three levels."""
    torch.manual_seed(0)
    if name == 'layer':
        return FADE(8), lambda sizes: features(sizes, [8, 8])
    if name == 'neck':
        neck = FPN(CHANNELS, 8, 4, upsample_cfg=dict(type='fade'))
        return neck, lambda sizes: [features(sizes)]
    head = SegformerHead(**HEAD, upsample_cfg=dict(type='fade'), norm_cfg=dict(type='BN'))
    return head.eval(), lambda sizes: [features(sizes)]


def run(model, inputs, module):
    """Outputs, and gradients of all inputs and of the module's parameters."""
    outs = model(*inputs)
    outs = list(outs) if isinstance(outs, tuple) else [outs]
    leaves = inputs[0] if isinstance(inputs[0], list) else inputs
    loss = sum(out.square().sum() for out in outs)
    return outs, torch.autograd.grad(loss, [*leaves, *module.parameters()])


def assert_agree(compiled, module, inputs):
    for ours, theirs in zip(
        run(compiled, inputs, module), run(module, inputs, module), strict=True
    ):
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4 * b.abs().max().item())


@pytest.mark.parametrize('name', ['layer', 'neck', 'head'])
@pytest.mark.parametrize('dynamic', [False, True], ids=['static', 'dynamic'])
def test_compiles_in_one_graph_forward_and_backward(name, dynamic):
    module, inputs = build(name)
    torch._dynamo.reset()
    counter = torch._dynamo.testing.CompileCounterWithBackend('aot_eager')
    compiled = torch.compile(module, fullgraph=True, dynamic=dynamic, backend=counter)
    compilations = []
    for sizes in SIZES:
        assert_agree(compiled, module, inputs(sizes))
        compilations.append(counter.frame_count)
    if dynamic:
        assert compilations[-1] == compilations[0]  # what the first size compiled serves all


def test_a_layer_compiles_with_inductor():
    module, inputs = build('layer')
    compiled = torch.compile(module, fullgraph=True)
    assert_agree(compiled, module, inputs(SIZES[1]))


@pytest.mark.parametrize('name', ['layer', 'neck', 'head'])
def test_exports_with_sizes_that_are_independent_of_each_other(name):
    module, inputs = build(name)
    module.eval()

    free = {2: Dim.DYNAMIC, 3: Dim.DYNAMIC}
    example = inputs(SIZES[1])
    shapes = [[free] * len(x) if isinstance(x, list) else free for x in example]
    exported = export(module, tuple(example), dynamic_shapes=tuple(shapes)).module()
    for sizes in [*SIZES, [(7, 9)] * 3]:
        x = inputs(sizes)
        for a, b in zip(exported(*x), module(*x), strict=True):
            torch.testing.assert_close(a, b)
