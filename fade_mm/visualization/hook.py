"""Looking into upsamplers while a model trains."""

import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from torch import Tensor

from fade_mm.registry import HOOKS

from .upsamplers import content_shape, overlay, slides, watch_upsamplers


@HOOKS.register_module()
class UpsamplerVisualizationHook(Hook):
    """Writes the upsamplers' gates and kernel entropies at every evaluation.

    The same few images of the validation set are shown each time, as the model gets them (resized,
    and from whatever storage), through the runner's visualiser, so they go wherever its
    ``vis_backends`` write (``LocalVisBackend``, ``TensorboardVisBackend``).

    Args:
        images: How many images, spread over the validation set. Default: 2.

    Raises:
        ValueError: ``images`` is below 1.
    """

    def __init__(self, images: int = 2) -> None:
        if images < 1:
            raise ValueError(f'images must be at least 1, got {images}')
        self.images = images

    @master_only
    def after_val_epoch(self, runner, metrics: dict | None = None) -> None:
        """Draw the overlays."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        if slides(model):
            runner.logger.warning(
                'gates and entropies are not drawn: the model predicts by sliding windows; with '
                'model.test_cfg.mode=whole they are'
            )
            return
        dataset = runner.val_dataloader.dataset
        count = min(self.images, len(dataset))
        for index in (i * len(dataset) // count for i in range(count)):
            sample = dataset[index]
            picture = _picture(sample)
            if picture is None:
                runner.logger.warning(f'sample {index} has no picture to draw gates on')
                continue
            with torch.no_grad(), watch_upsamplers(model) as views:
                model.test_step(pseudo_collate([sample]))
            for name, view in views.items():
                maps = {'entropy': view.entropy, 'gate': view.gate}
                for kind, values in maps.items():
                    if values is not None:
                        drawn = overlay(picture, values, content=view.content)[..., ::-1].copy()
                        runner.visualizer.add_image(
                            f'image{index}.{name}.{kind}', drawn, runner.iter
                        )


def _picture(sample: dict) -> np.ndarray | None:
    """What a data pipeline made of a picture, ``(h, w, 3)``, without padding, as uint8."""
    inputs = sample.get('inputs') if isinstance(sample, dict) else None
    if not isinstance(inputs, Tensor) or inputs.dim() != 3:
        return None
    metainfo = getattr(sample.get('data_samples'), 'metainfo', {})
    h, w = content_shape(metainfo, inputs.shape[1:])
    picture = inputs[:3] if len(inputs) >= 3 else inputs[:1].expand(3, -1, -1)
    picture = picture[:, :h, :w].permute(1, 2, 0).cpu().numpy()
    if picture.dtype != np.uint8:
        low, high = picture.min(), picture.max()
        picture = (255.0 * (picture - low) / max(high - low, 1e-12)).astype(np.uint8)
    return np.ascontiguousarray(picture)
