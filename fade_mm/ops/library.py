"""``fade_mm::gated_reassemble`` in `torch.library`: what autograd, compile and export see."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch._ops import OpOverloadPacket

from . import dispatch
from .checks import check_like, check_operands
from .reference import empty_output

_ARGUMENTS = (
    'Tensor de, Tensor logits, Tensor? logits_de, Tensor? gate, Tensor? en, '
    'int scale_factor, bool softmax, str? backend=None'
)


@torch.library.custom_op(
    'fade_mm::gated_reassemble', mutates_args=(), schema=f'({_ARGUMENTS}) -> Tensor'
)
def gated_reassemble(de, logits, logits_de, gate, en, scale_factor, softmax, backend=None):
    """Softmax (unless ``softmax`` is off), reassembly and gate; see `ops.gated_reassemble`.

    The arguments are checked here too: while a program is traced, their sizes are unknown.
    """
    tensors = de, logits, logits_de, gate, en
    check_operands(*tensors, scale_factor, softmax)
    return dispatch.select(backend, *tensors).forward(*tensors, scale_factor, softmax)


@torch.library.custom_op(
    'fade_mm::gated_reassemble_backward',
    mutates_args=(),
    schema=f'(Tensor grad, {_ARGUMENTS}) -> Tensor[]',
)
def gated_reassemble_backward(
    grad, de, logits, logits_de, gate, en, scale_factor, softmax, backend=None
):
    """Gradients of the tensors that were given, in the order of the arguments."""
    tensors = grad, de, logits, logits_de, gate, en
    check_operands(*tensors[1:], scale_factor, softmax)
    check_like('grad', grad, (*de.shape[:2], *logits.shape[2:]), de)
    return dispatch.select(backend, *tensors).backward(*tensors, scale_factor, softmax)


@gated_reassemble.register_fake
def _fake(de, logits, *rest):
    return empty_output(de, logits)


@gated_reassemble_backward.register_fake
def _fake_backward(grad, *arguments):
    return [torch.empty_like(x) for x in arguments if isinstance(x, Tensor)]


def _setup_context(ctx, inputs, output):
    tensors, ctx.options = inputs[:5], inputs[5:]
    ctx.is_given = [x is not None for x in tensors]
    ctx.save_for_backward(*tensors)


def _backward(ctx, grad):
    grads = iter(gated_reassemble_backward(grad, *ctx.saved_tensors, *ctx.options))
    given = (next(grads) if given else None for given in ctx.is_given)
    return *given, *(None for _ in ctx.options)


gated_reassemble.register_autograd(_backward, setup_context=_setup_context)


def _without_autocast(op: OpOverloadPacket) -> Callable:
    """A rule for autocast: the operator computes with the dtypes that it is given.

    `register_autocast` would cast everything to one dtype, fixed beforehand. But the output has
    the dtype of ``de``, and inside of the operator nothing may be cast below float32.
    """

    def rule(*args):
        with torch.autocast(args[0].device.type, enabled=False):
            return op(*args)

    return rule


_autocast = torch.library.Library('fade_mm', 'IMPL')
for _name in ('gated_reassemble', 'gated_reassemble_backward'):
    for _device in ('CPU', 'CUDA'):
        _rule = _without_autocast(getattr(torch.ops.fade_mm, _name))
        _autocast.impl(_name, _rule, f'Autocast{_device}')
