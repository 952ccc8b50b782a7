"""Pictures of what a test predicts."""

from pathlib import Path

import mmcv
from mmengine.hooks import Hook

from fade_mm.registry import HOOKS


@HOOKS.register_module()
class DrawingHook(Hook):
    """Draws a test's predictions with the runner's visualizer, for libraries without such a hook.

    Args:
        folder: Where the pictures go; each is named after its input.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def after_test_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        """Draw the samples of a batch."""
        for sample in outputs:
            name = Path(sample.img_path).stem
            picture = mmcv.imread(sample.img_path, channel_order='rgb')
            runner.visualizer.add_datasample(name, picture, sample)
            drawn = runner.visualizer.get_image()[..., ::-1]
            mmcv.imwrite(drawn, str(self.folder / f'{name}.png'))
