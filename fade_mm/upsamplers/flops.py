"""Lets mmengine's FLOPs analyser count our operator."""

from math import prod

from mmengine.analysis import complexity_analysis
from mmengine.analysis.jit_handles import get_shape


def count_gated_reassemble(inputs: list, outputs: list) -> int:
    """Multiply-adds: ``K * K * C`` per output point, and ``2 * C`` for the gate's blend.

    Args:
        inputs: The traced arguments of ``fade_mm::gated_reassemble``.
        outputs: Its traced result.
    """
    _, logits, _, _, en = inputs[:5]
    per_value = get_shape(logits)[1] + (0 if en.type().kind() == 'NoneType' else 2)
    return per_value * prod(get_shape(outputs[0]))


complexity_analysis._DEFAULT_SUPPORTED_FLOP_OPS['fade_mm::gated_reassemble'] = (
    count_gated_reassemble
)
