"""Looking into upsamplers: what the gate lets through, and how focused the kernels are."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from fade_mm.ops.sampling import nearest_up
from fade_mm.upsamplers import FADE


class UpsamplerView(NamedTuple):
    """What a FADE layer did with the first image of the last batch.

    Attributes:
        gate: The gate ``(H, W)`` in [0, 1], 1 where the encoder feature passes; ``None`` if the
            layer has none.
        entropy: Entropy of the kernels ``(h, w)`` over its largest value, so 0 where a kernel
            picks one point and 1 where it averages all.
    """

    gate: np.ndarray | None
    entropy: np.ndarray


@contextmanager
def watch_upsamplers(model: nn.Module) -> Iterator[dict[str, UpsamplerView]]:
    """Record what the FADE layers of a model do while the context is open.

    Args:
        model: Any model.

    Yields:
        A dict that is filled as the model runs: the layers' names, in the order of the first use,
        and what they did last.
    """
    views: dict[str, UpsamplerView] = {}

    def record(name: str, up: FADE, inputs: tuple[Tensor, Tensor]) -> None:
        en, de = (x[:1] for x in inputs)
        gate = None if up.gate_generator is None else up.gate_generator(de).sigmoid()[0, 0]
        logits, logits_de = up.ker_generator(en, de)
        if logits_de is not None:
            logits = logits + nearest_up(logits_de, logits.shape[2:], up.scale_factor)
        log_kernels = logits.float().log_softmax(1)
        entropy = -(log_kernels.exp() * log_kernels).sum(1)[0] / np.log(log_kernels.shape[1])
        views[name] = UpsamplerView(
            None if gate is None else gate.float().cpu().numpy(), entropy.cpu().numpy()
        )

    def hook(name: str):
        return torch.no_grad()(lambda up, inputs, output: record(name, up, inputs))

    handles = [
        module.register_forward_hook(hook(name))
        for name, module in model.named_modules()
        if isinstance(module, FADE)
    ]
    try:
        yield views
    finally:
        for handle in handles:
            handle.remove()


def overlay(image: np.ndarray, values: np.ndarray, opacity: float = 0.6) -> np.ndarray:
    """Lay a map over a picture as colours, from blue (0) over green to yellow (1).

    Args:
        image: Picture ``(h, w, 3)``, uint8, BGR.
        values: Map of any size with values in [0, 1].
        opacity: Share of the map. Default: 0.6.

    Returns:
        A picture of the same size.
    """
    levels = (255 * values.clip(0, 1)).astype(np.uint8)
    levels = cv2.resize(levels, image.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    colours = cv2.applyColorMap(levels, cv2.COLORMAP_VIRIDIS)
    return cv2.addWeighted(colours, opacity, image, 1 - opacity, 0)
