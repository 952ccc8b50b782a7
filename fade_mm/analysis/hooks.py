"""Looking into upsamplers while a model trains."""

import torch
from mmengine.dataset import pseudo_collate
from mmengine.dist import master_only
from mmengine.hooks import Hook

from fade_mm.hosts.base import host_of, unwrapped
from fade_mm.registry import HOOKS

from .views import overlay, watch_upsamplers


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
        model = unwrapped(runner.model)
        host = host_of(model)
        if host.slides(model):
            runner.logger.warning(
                'gates and entropies are not drawn: the model predicts by sliding windows; with '
                'model.test_cfg.mode=whole they are'
            )
            return
        dataset = runner.val_dataloader.dataset
        count = min(self.images, len(dataset))
        for index in (i * len(dataset) // count for i in range(count)):
            sample = dataset[index]
            picture = host.picture_of(sample)
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
