"""Looking into upsamplers while a model trains."""

import cv2
import torch
from mmengine.dataset import pseudo_collate
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper

from fade_mm.registry import HOOKS

from .upsamplers import overlay, watch_upsamplers


@HOOKS.register_module()
class UpsamplerVisualizationHook(Hook):
    """Writes gates and kernel entropies of FADE layers at every evaluation.

    The same few images of the validation set are shown each time, through the runner's visualiser,
    so they go wherever its ``vis_backends`` write (``LocalVisBackend``, ``TensorboardVisBackend``).

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
        dataset = runner.val_dataloader.dataset
        count = min(self.images, len(dataset))
        for index in (i * len(dataset) // count for i in range(count)):
            sample = dataset[index]
            with torch.no_grad(), watch_upsamplers(model) as views:
                model.test_step(pseudo_collate([sample]))
            picture = cv2.imread(sample['data_samples'].img_path)
            for name, view in views.items():
                maps = {'entropy': view.entropy, 'gate': view.gate}
                for kind, values in maps.items():
                    if values is not None:
                        drawn = overlay(picture, values)[..., ::-1].copy()
                        runner.visualizer.add_image(
                            f'image{index}.{name}.{kind}', drawn, runner.iter
                        )
