"""What upsamplers do in numbers: whether they look at the picture, and how."""

import copy
import math
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from fade_mm.ops.geometry import step_of
from fade_mm.upsamplers import Upsampler, View, named_upsamplers

FIXED = {'kernels': 0.02, 'offsets': 0.02, 'index': 0.005}
"""Below this `variation`, from point to point and from picture to picture, a layer is fixed."""


class UpsamplerStatistics:
    """What an upsampler does, measured on the pictures that it is given.

    Every measure is by the kind of its `View`. Points are compared with the mean of their picture's
    points at the same sub-pixel position, since a kernel may depend on that without having looked
    at the picture:

    - ``kernels.entropy``: of the kernels over its largest value; 0 one point, 1 the mean of all.
    - ``kernels.reach``: distance of their centre of mass from the point's cell, in cells of ``de``;
      of kernels for points that a layer chose there is none.
    - ``kernels.variation``: how much of a kernel's weight lies elsewhere than in the mean kernel
      (total variation distance, 0 to 1), mean over points; where a position has several points.
    - ``kernels.between_pictures``: likewise, of the pictures' mean kernels from their common mean;
      with two pictures or more.
    - ``gate.mean``, ``index.mean``, and as ``variation`` and ``between_pictures`` mean absolute
      differences.
    - ``offsets.reach``: mean length in cells of ``de``; the differences are lengths, too.

    Args:
        up: The upsampler, which is only read.
    """

    def __init__(self, up: Upsampler) -> None:
        self.up = up
        self._values: dict[str, list[float]] = defaultdict(list)  # of batches, once a picture
        self._means: dict[str, list[Tensor]] = defaultdict(list)  # of pictures

    @torch.no_grad()
    def update(self, en: Tensor, de: Tensor | None = None) -> None:
        """Measure one more batch.

        Args:
            en, de: What the upsampler is called with.
        """
        low = en if de is None else de
        batch = len(low)
        if not batch:
            return
        # A copy, whose normalisations may count what they see.
        for view in copy.deepcopy(self.up).views(*(x for x in (en, de) if x is not None)):
            step = step_of(view.tensor.shape[2:], low.shape[2:], self.up.scale_factor)
            values = view.tensor.float().unflatten(0, (batch, -1))  # groups lie along the batch
            for name, value in _levels(view, values).items():
                self._values[f'{view.name}.{name}'] += [value] * batch
            phases = [values[..., i::step, j::step] for i in range(step) for j in range(step)]
            phases = [x.flatten(3) for x in phases if x.numel()]
            means = [x.mean(3, keepdim=True) for x in phases]
            self._means[view.name] += torch.cat(means, 3).cpu()  # one more a picture
            if min(x.shape[3] for x in phases) > 1:
                apart = torch.cat([x - mean for x, mean in zip(phases, means, strict=True)], 3)
                value = _distance(view.name, apart).mean().item()
                self._values[f'{view.name}.variation'] += [value] * batch

    def summary(self) -> dict[str, float]:
        """The measures by name, means over the pictures so far; none before the first.

        Pictures smaller than the scale factor have fewer positions: their means are not compared.
        """
        found = {name: sum(values) / len(values) for name, values in self._values.items()}
        for kind, means in self._means.items():
            if len({x.shape for x in means}) == 1 < len(means):
                stacked = torch.stack(means)
                apart = _distance(kind, stacked - stacked.mean(0))
                found[f'{kind}.between_pictures'] = apart.mean().item()
        return dict(sorted(found.items()))


def fixed_views(summary: dict[str, float]) -> list[str]:
    """The kinds of views, of those that make the output, that do not depend on the picture.

    Args:
        summary: From `UpsamplerStatistics.summary`.
    """
    return [
        kind
        for kind, least in FIXED.items()
        if summary.get(f'{kind}.variation', math.inf) < least
        and summary.get(f'{kind}.between_pictures', 0.0) < least
    ]


def overview(found: dict[str, dict[str, float]]) -> dict[str, float]:
    """What is said of all upsamplers of a model together.

    Args:
        found: From `UpsamplerStatistics.summary`, by upsampler.

    Returns:
        ``upsamplers/fixed``, how many have a fixed view, and of each kind of view that can be fixed
        ``upsamplers/KIND.variation``, the mean over them; nothing where there is none.
    """
    means = {}
    for kind in FIXED:
        name = f'{kind}.variation'
        values = [summary[name] for summary in found.values() if name in summary]
        if values:
            means[f'upsamplers/{name}'] = sum(values) / len(values)
    fixed = sum(bool(fixed_views(summary)) for summary in found.values())
    return {'upsamplers/fixed': fixed, **means} if means else {}


def has_begun(summary: dict[str, float], kind: str) -> bool:
    """Whether a fixed view differs from that of a layer that has learned nothing.

    CARAFE's kernels start as a mean of all points, DySample's offsets as zero.

    Args:
        summary: From `UpsamplerStatistics.summary`.
        kind: From `fixed_views`.
    """
    if kind == 'kernels':
        return summary['kernels.entropy'] < 0.95
    return kind != 'offsets' or summary['offsets.reach'] > 0.1


@contextmanager
def measuring_upsamplers(model: nn.Module) -> Iterator[dict[str, UpsamplerStatistics]]:
    """Measure the upsamplers of a model at each of their calls while the context is open.

    Args:
        model: Any model.

    Yields:
        The statistics by the upsamplers' names, which fill as the model runs.
    """
    found = {name: UpsamplerStatistics(up) for name, up in named_upsamplers(model)}

    def hook(statistics: UpsamplerStatistics):
        return lambda up, inputs, output: statistics.update(*inputs)

    handles = [x.up.register_forward_hook(hook(x)) for x in found.values()]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _levels(view: View, values: Tensor) -> dict[str, float]:
    """What can be said of every point by itself, as means.

    Args:
        view: Says what the values are.
        values: ``(N, groups, channels, h, w)``.
    """
    if view.name == 'offsets':
        return {'reach': _lengths(values).mean().item()}
    if view.name != 'kernels':
        return {'mean': values.mean().item()}
    taps = values.shape[2]
    entropy = torch.special.entr(values).sum(2).mean().item() / math.log(taps)
    if not view.in_window:
        return {'entropy': entropy}
    at = torch.arange(math.isqrt(taps), device=values.device) - (math.isqrt(taps) - 1) / 2
    y = torch.einsum('ngkhw,k->nghw', values, at.repeat_interleave(len(at)))
    x = torch.einsum('ngkhw,k->nghw', values, at.repeat(len(at)))
    return {'entropy': entropy, 'reach': torch.hypot(y, x).mean().item()}


def _distance(kind: str, difference: Tensor) -> Tensor:
    """How far two views are from each other, without the dimension of their channels, the third."""
    if kind == 'kernels':
        return difference.abs().sum(2) / 2
    if kind == 'offsets':
        return _lengths(difference)
    return difference.abs().mean(2)


def _lengths(offsets: Tensor) -> Tensor:
    """Of offsets with x of all groups of channels, then y, in the third dimension; means."""
    x, y = offsets.chunk(2, 2)
    return torch.hypot(x, y).mean(2)
