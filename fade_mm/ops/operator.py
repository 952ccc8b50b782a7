"""``fade_mm::gated_reassemble`` in `torch.library`: what autograd, compile and export see."""

from collections.abc import Callable
from contextlib import suppress

import torch
from torch import Tensor
from torch._ops import OpOverloadPacket
from torch.utils.flop_counter import register_flop_formula

from . import backend, decomposition
from .checks import is_tracing
from .problem import Problem

if not hasattr(torch.library, 'custom_op'):
    raise ImportError(
        f"fade_mm needs torch 2.4 or newer, this is {torch.__version__}; pip install 'torch>=2.4'"
    )

_ARGUMENTS = (
    'Tensor de, Tensor logits, Tensor? logits_de, Tensor? gate, Tensor? en, '
    'int scale_factor, bool softmax'
)


@torch.library.custom_op(
    'fade_mm::gated_reassemble', mutates_args=(), schema=f'({_ARGUMENTS}) -> Tensor'
)
def gated_reassemble(de, logits, logits_de, gate, en, scale_factor, softmax):
    """Softmax (unless ``softmax`` is off), reassembly and gate; see `ops.gated_reassemble`."""
    problem = Problem(de, logits, logits_de, gate, en, scale_factor, softmax)
    return backend.select(*problem.given).forward(problem)


@torch.library.custom_op(
    'fade_mm::gated_reassemble_backward',
    mutates_args=(),
    schema=f'(Tensor grad, {_ARGUMENTS}, bool[] needed) -> Tensor[]',
)
def gated_reassemble_backward(grad, de, logits, logits_de, gate, en, scale_factor, softmax, needed):
    """Gradients of the tensors that are needed, in the order of the arguments."""
    problem = Problem(de, logits, logits_de, gate, en, scale_factor, softmax)
    problem.check_gradient(grad)
    grads = backend.select(grad, *problem.given).backward(problem, grad, needed)
    return [x for x in grads if x is not None]


@gated_reassemble.register_fake
def _fake(*arguments):
    return Problem(*arguments).empty_output()


@gated_reassemble_backward.register_fake
def _fake_backward(grad, *arguments):
    *arguments, needed = arguments
    problem = Problem(*arguments)
    problem.check_gradient(grad)
    return [x for x in problem.empty_gradients(needed) if x is not None]


def setup_context(ctx, inputs, output):
    """Keep what `backward` needs."""
    tensors, ctx.options = inputs[:5], inputs[5:]
    ctx.backend = backend.preferred_backend()
    ctx.save_for_backward(*tensors)


def backward(ctx, grad):
    """Gradients of all arguments, None where there are none."""
    return gradients(ctx, ctx.saved_tensors, grad)


def gradients(ctx, tensors, grad):
    """`backward` from tensors that are unpacked already: a checkpoint lets that be done once."""
    needed = ctx.needs_input_grad[:5]
    if torch.is_grad_enabled() and not is_tracing():
        grads = _differentiable_backward(grad, tensors, ctx.options, needed)
    else:
        with backend.use_backend(ctx.backend):
            grads = gated_reassemble_backward(grad, *tensors, *ctx.options, needed)
    grads = iter(grads)
    return *(next(grads) if asked else None for asked in needed), *(None for _ in ctx.options)


def _differentiable_backward(grad, tensors, options, needed) -> tuple[Tensor, ...]:
    """For second derivatives: gradients that have gradients."""
    tensors = [x if x is None else x.view_as(x) for x in tensors]  # one may be given twice
    asked = [x for x, is_needed in zip(tensors, needed, strict=True) if is_needed]
    y = decomposition.forward(*tensors, *options)
    return torch.autograd.grad(y, asked, grad, create_graph=True)


gated_reassemble.register_autograd(backward, setup_context=setup_context)


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
    for _device in ('CPU', 'CUDA', 'XPU', 'MPS', 'PrivateUse1'):
        _rule = _without_autocast(getattr(torch.ops.fade_mm, _name))
        with suppress(RuntimeError):  # a release that has no autocast there
            _autocast.impl(_name, _rule, f'Autocast{_device}')


@register_flop_formula(torch.ops.fade_mm.gated_reassemble)
def _flops(de_shape, logits_shape, *_, out_shape=None, **__) -> int:
    """Those of the reassembly, as torch counts matrix products: two a multiply-add."""
    n, taps, h, w = logits_shape
    return 2 * n * taps * de_shape[1] * h * w


@register_flop_formula(torch.ops.fade_mm.gated_reassemble_backward)
def _flops_backward(grad_shape, de_shape, logits_shape, *_, **__) -> int:
    return 2 * _flops(de_shape, logits_shape)
