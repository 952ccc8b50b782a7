"""The matting loss against its formula, pixel by pixel."""

import math

import pytest
import torch

from fade_mm.hosts.matting.losses import MattingLoss


def batch(seed=0, unknown=0.5, dtype=torch.float64, shape=(2, 5, 7)):
    rng = torch.Generator().manual_seed(seed)
    n, h, w = shape
    pred = torch.randn(n, 1, h, w, generator=rng).to(dtype)
    alpha, fg, bg, merged = (torch.rand(n, c, h, w, generator=rng).to(dtype) for c in (1, 3, 3, 3))
    trimap = torch.where(torch.rand(n, 1, h, w, generator=rng) < unknown, 128, 255)
    return pred, trimap.to(torch.uint8), alpha, fg, bg, merged


def by_hand(pred, trimap, alpha, fg, bg, merged, eps=1e-6):
    """Loops over pictures, colours and pixels, as the formula is written."""
    sums = [0.0, 0.0]
    for n in range(len(pred)):
        known = [x[n] for x in (pred, trimap, alpha, fg, bg, merged)]
        p, t, a, f, b, m = (x.flatten(1).tolist() for x in known)
        count = t[0].count(128) + 1
        for i, value in enumerate(p[0]):
            inside = float(t[0][i] == 128)
            sums[0] += math.sqrt(((value - a[0][i]) * inside) ** 2 + eps**2) / count
            for c in range(3):
                off = value * f[c][i] + (1 - value) * b[c][i] - m[c][i]
                sums[1] += math.sqrt((off * inside) ** 2 + eps**2) / count
    return [0.5 * x / len(pred) for x in sums]


@pytest.mark.parametrize('unknown', [0.0, 0.3, 1.0])
def test_matches_the_formula(unknown):
    operands = batch(unknown=unknown)
    losses = MattingLoss()(*operands)
    assert [float(x) for x in losses.values()] == pytest.approx(by_hand(*operands), rel=1e-5)
    assert list(losses) == ['loss_alpha', 'loss_comp']


def test_weights_are_factors():
    operands = batch()
    plain, weighted = MattingLoss(1, 1)(*operands), MattingLoss(3, 0.25)(*operands)
    assert float(weighted['loss_alpha']) == pytest.approx(3 * float(plain['loss_alpha']))
    assert float(weighted['loss_comp']) == pytest.approx(0.25 * float(plain['loss_comp']))


def test_gradient_is_that_of_the_formula():
    pred, *rest = batch(shape=(2, 3, 4))
    pred.requires_grad_()
    sum(MattingLoss(1, 1, eps=1e-2)(pred, *rest).values()).backward()
    step = 1e-4
    for place in torch.cartesian_prod(torch.arange(2), torch.arange(3), torch.arange(4)).tolist():
        n, y, x = place
        values = []
        for sign in (1, -1):
            moved = pred.detach().clone()
            moved[n, 0, y, x] += sign * step
            values.append(2 * sum(by_hand(moved, *rest, eps=1e-2)))
        slope = (values[0] - values[1]) / (2 * step)
        assert float(pred.grad[n, 0, y, x]) == pytest.approx(slope, abs=1e-4)


def test_what_is_known_has_no_gradient_and_nothing_unknown_no_fault():
    pred, trimap, *rest = batch(unknown=0.4)
    pred.requires_grad_()
    trimap[0] = 0
    sum(MattingLoss()(pred, trimap, *rest).values()).backward()
    assert torch.isfinite(pred.grad).all()
    assert not pred.grad[trimap != 128].any()
    assert pred.grad[1].any()


def test_half_precision_is_summed_in_single():
    pred, *rest = batch(dtype=torch.float32, shape=(1, 300, 300), unknown=1.0)
    half = MattingLoss()(pred.half(), *rest)
    whole = MattingLoss()(pred.half().float(), *rest)
    assert half['loss_alpha'].dtype == torch.float32
    assert float(half['loss_alpha']) == float(whole['loss_alpha'])


def test_a_config_builds_it():
    from mmengine.registry import MODELS

    assert isinstance(MODELS.build(dict(type='fade_mm.MattingLoss', eps=1e-3)), MattingLoss)
