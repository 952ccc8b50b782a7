"""The operator written down a second time, straight from the formulas, slow and plain."""

import torch
import torch.nn.functional as F


def nearest_rows(size, low, scale_factor):
    """The low-resolution point that each of ``size`` output points reads around."""
    return (torch.arange(size) // scale_factor).clamp(max=low - 1)


def nearest(x, size, scale_factor):
    """Nearest-neighbour upsampling by index."""
    rows = nearest_rows(size[0], x.shape[2], scale_factor)
    cols = nearest_rows(size[1], x.shape[3], scale_factor)
    return x[:, :, rows][:, :, :, cols]


def step(low, size, scale_factor):
    return 1 if tuple(low) == tuple(size) else scale_factor


def reassemble(de, kernels, scale_factor=2):
    """Unfold every neighbourhood, repeat it to the output's size, weigh it, add it up."""
    n, c, H, W = de.shape
    taps, size = kernels.shape[1], kernels.shape[2:]
    kernel_size = int(taps**0.5)
    scale_factor = step((H, W), size, scale_factor)
    unfolded = F.unfold(de, kernel_size, padding=kernel_size // 2)
    unfolded = nearest(unfolded.view(n, c * taps, H, W), size, scale_factor)
    return (unfolded.view(n, c, taps, *size) * kernels.unsqueeze(1)).sum(2)


def gated_reassemble(de, logits, logits_de=None, gate=None, en=None, scale_factor=2, softmax=True):
    size = logits.shape[2:]
    factor = step(de.shape[2:], size, scale_factor)
    if logits_de is not None:
        logits = logits + nearest(logits_de, size, factor)
    y = reassemble(de, logits.softmax(1) if softmax else logits, scale_factor)
    if gate is None:
        return y
    g = nearest(gate, size, factor).sigmoid()
    return g * en + (1 - g) * y
