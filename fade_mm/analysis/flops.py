"""Multiply-adds of upsamplers: for mmengine's FLOPs analyser, and as the papers count them."""

import copy
from collections import Counter
from math import prod

from mmengine.analysis import FlopAnalyzer, complexity_analysis
from mmengine.analysis.jit_handles import conv_flop_jit, elementwise_flop_counter, get_shape
from torch import Tensor, nn

from fade_mm.upsamplers.base import named_upsamplers


def count_gated_reassemble(inputs: list, outputs: list) -> int:
    """Multiply-adds: ``K * K * C`` per output point, and ``2 * C`` for the gate's blend.

    Args:
        inputs: The traced arguments of ``fade_mm::gated_reassemble``.
        outputs: Its traced result.
    """
    _, logits, _, _, en = inputs[:5]
    per_value = get_shape(logits)[1] + (0 if _is_none(en) else 2)
    return per_value * prod(get_shape(outputs[0]))


def count_as_published(model: nn.Module, inputs: tuple[Tensor, ...]) -> int:
    """Multiply-adds of a model in evaluation mode, counted as the papers' tables do.

    Matrix products count (convolutions, linear layers, attention), and in the host also what
    mmcv's first counter added, on which NVlabs' ``tools/get_flops.py`` builds: biases of
    convolutions, though not of 1x1 ones, which theirs are linear layers; BN, 2 per value; ReLU, 1.
    That gives the published 15.91G of SegFormer-B1. LayerNorm, interpolation and pooling do not
    count. The published cost of upsamplers is that of products alone: convolutions where they
    run, linear layers, inner products, reassembly, and the gate's blend.

    Args:
        model: The model, which stays as it is.
        inputs: Its arguments.
    """
    model = copy.deepcopy(model).eval()  # the analyser leaves its hooks in a model that fails
    analysis = FlopAnalyzer(model, inputs).clear_op_handles()
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    analysis.set_op_handle(**{name: _HANDLES[name] for name in _PRODUCTS})
    analysis.set_op_handle(
        **{
            'aten::_convolution': _count_convolution,
            'aten::batch_norm': _HANDLES['aten::batch_norm'],
            'aten::relu': elementwise_flop_counter(0, 1),
            'aten::relu_': elementwise_flop_counter(0, 1),
        }
    )
    counts = analysis.by_module_and_operator()
    not_products = sum(
        counts[name][operator]
        for name, _ in named_upsamplers(model)
        for operator in ('conv_bias', 'batch_norm', 'relu', 'relu_')
    )
    return int(sum(counts[''].values()) - not_products)


def _count_convolution(inputs: list, outputs: list) -> Counter:
    counts = Counter(conv_flop_jit(inputs, outputs))
    if not _is_none(inputs[2]) and prod(get_shape(inputs[1])[2:]) > 1:
        counts['conv_bias'] = prod(get_shape(outputs[0]))
    return counts


def _is_none(value) -> bool:
    return value.type().kind() == 'NoneType'


_HANDLES = complexity_analysis._DEFAULT_SUPPORTED_FLOP_OPS
_HANDLES['fade_mm::gated_reassemble'] = count_gated_reassemble
_HANDLES['aten::linalg_vecdot'] = elementwise_flop_counter(1, 0)
_HANDLES['aten::addcmul'] = elementwise_flop_counter(0, 1)
_PRODUCTS = ['fade_mm::gated_reassemble'] + [
    f'aten::{name}'
    for name in ('addcmul', 'linalg_vecdot', 'linear', 'addmm', 'mm', 'bmm', 'matmul', 'einsum')
]
