"""``fade_mm::gated_reassemble`` in `torch.library`: what autograd, compile and export see."""

import torch
from torch import Tensor

from . import reference

_ARGUMENTS = (
    'Tensor de, Tensor logits, Tensor? logits_de, Tensor? gate, Tensor? en, '
    'int scale_factor, bool softmax'
)

gated_reassemble = torch.library.custom_op(
    'fade_mm::gated_reassemble',
    reference.forward,
    mutates_args=(),
    schema=f'({_ARGUMENTS}) -> Tensor',
)
gated_reassemble_backward = torch.library.custom_op(
    'fade_mm::gated_reassemble_backward',
    reference.backward,
    mutates_args=(),
    schema=f'(Tensor grad, {_ARGUMENTS}) -> Tensor[]',
)


@gated_reassemble.register_fake
def _fake(de, logits, logits_de, gate, en, scale_factor, softmax):
    shape = (*de.shape[:2], *logits.shape[2:])
    return torch.empty(
        shape, dtype=de.dtype, device=de.device, memory_format=reference.memory_format(de)
    )


@gated_reassemble_backward.register_fake
def _fake_backward(grad, *arguments):
    return [torch.empty_like(x) for x in arguments if isinstance(x, Tensor)]


def _setup_context(ctx, inputs, output):
    tensors, ctx.options = inputs[:5], inputs[5:]
    ctx.is_given = [x is not None for x in tensors]
    ctx.save_for_backward(*tensors)


def _backward(ctx, grad):
    grads = iter(gated_reassemble_backward(grad, *ctx.saved_tensors, *ctx.options))
    return *(next(grads) if given else None for given in ctx.is_given), None, None


gated_reassemble.register_autograd(_backward, setup_context=_setup_context)
