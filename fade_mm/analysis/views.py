"""Looking into upsamplers: what the gate lets through, and how focused the kernels are."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import cv2
import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from torch import Tensor, nn

from fade_mm.hosts import host_of
from fade_mm.upsamplers import Upsampler, named_upsamplers


class UpsamplerView(NamedTuple):
    """What an upsampler with kernels did with the first image of the last batch.

    Attributes:
        gate: The gate ``(H, W)`` in [0, 1], 1 where the encoder feature passes; ``None`` if the
            layer has none.
        entropy: Entropy of the kernels ``(h, w)`` over its largest value, so 0 where a kernel
            picks one point and 1 where it averages all; of the first group of channels if several
            have kernels of their own.
        content: The shares of the maps' height and width that show the image; what is below and to
            the right of it shows padding. All where the model is not called with data samples.
    """

    gate: np.ndarray | None
    entropy: np.ndarray
    content: tuple[float, float] = (1.0, 1.0)


@contextmanager
def watch_upsamplers(model: nn.Module) -> Iterator[dict[str, UpsamplerView]]:
    """Record what the upsamplers of a model that have kernels do while the context is open.

    Args:
        model: Any model.

    Yields:
        A dict that is filled as the model runs: the upsamplers' names, in the order of the
        first use, and what they did last.
    """
    views: dict[str, UpsamplerView] = {}
    content = (1.0, 1.0)
    host = host_of(model)

    def measure(model: nn.Module, args: tuple, kwargs: dict) -> None:
        nonlocal content
        if kwargs.get('data_samples') and isinstance(kwargs.get('inputs'), Tensor):
            size = kwargs['inputs'].shape[-2:]
            shown = host.content_shape(kwargs['data_samples'][0].metainfo, size)
            content = (shown[0] / size[0], shown[1] / size[1])

    def record(name: str, up: Upsampler, inputs: tuple[Tensor, ...]) -> None:
        found = {view.name: view.tensor[0].float() for view in up.views(*(x[:1] for x in inputs))}
        if 'kernels' in found:
            kernels, gate = found['kernels'], found.get('gate')
            entropy = torch.special.entr(kernels).sum(0) / np.log(len(kernels))
            views[name] = UpsamplerView(
                None if gate is None else gate[0].cpu().numpy(), entropy.cpu().numpy(), content
            )

    def hook(name: str):
        return torch.no_grad()(lambda up, inputs, output: record(name, up, inputs))

    handles = [up.register_forward_hook(hook(name)) for name, up in named_upsamplers(model)]
    handles.append(model.register_forward_pre_hook(measure, with_kwargs=True))
    try:
        yield views
    finally:
        for handle in handles:
            handle.remove()


def overlay(
    image: np.ndarray,
    values: np.ndarray,
    opacity: float = 0.6,
    content: tuple[float, float] = (1.0, 1.0),
) -> np.ndarray:
    """Lay a map over a picture as colours, from blue (0) over green to yellow (1).

    Args:
        image: Picture ``(h, w, 3)``, uint8, BGR.
        values: Map of any size with values in [0, 1].
        opacity: Share of the map. Default: 0.6.
        content: The shares of the map's height and width that show the picture, as in
            `UpsamplerView`. Default: all.

    Returns:
        A picture of the same size.
    """
    rows, columns = (
        ((np.arange(n) + 0.5) / n * share * cells).astype(int)  # the cell below a pixel's centre
        for n, share, cells in zip(image.shape[:2], content, values.shape, strict=True)
    )
    levels = (255 * values[np.ix_(rows, columns)].clip(0, 1)).astype(np.uint8)
    colours = cv2.applyColorMap(levels, cv2.COLORMAP_VIRIDIS)
    return cv2.addWeighted(colours, opacity, image, 1 - opacity, 0)


_MAPS = {
    'entropy': 'kernels: 0 one point, 1 the mean of all',
    'gate': 'gate: 0 the decoder, 1 the encoder',
}


def sheet(image: np.ndarray, views: dict[str, UpsamplerView]) -> np.ndarray:
    """All that upsamplers did with a picture on one sheet, a layer a column, with scales.

    Args:
        image: Picture ``(h, w, 3)``, uint8, BGR.
        views: From `watch_upsamplers`, at least one.

    Returns:
        The sheet, ``(H, W, 3)``, uint8, BGR.
    """
    kinds = [kind for kind in _MAPS if any(getattr(x, kind) is not None for x in views.values())]
    h, w = image.shape[:2]
    size = 3 * len(views) + 1, (3 * h / w + 0.4) * len(kinds)
    figure = Figure(size, layout='constrained')
    axes = figure.subplots(len(kinds), len(views), squeeze=False)
    for row, kind in zip(axes, kinds, strict=True):
        for axis, (name, view) in zip(row, views.items(), strict=True):
            axis.axis('off')
            values = getattr(view, kind)
            if values is not None:
                axis.imshow(overlay(image, values, content=view.content)[..., ::-1])
                axis.set_title(f'{name}\n{values.shape[0]} x {values.shape[1]}', fontsize=8)
        scale = ScalarMappable(cmap='viridis')
        figure.colorbar(scale, ax=row, aspect=30).set_label(_MAPS[kind], fontsize=8)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., 2::-1]
