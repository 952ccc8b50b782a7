"""Image matting, on mmengine and mmcv alone."""

import os
from pathlib import Path

import numpy as np
import torch
from mmengine.dataset import Compose, pseudo_collate
from mmengine.structures import BaseDataElement
from torch import nn

from fade_mm.errors import SetupError
from fade_mm.hosts.base import Host
from fade_mm.hosts.traced import Exported
from fade_mm.registry import HOSTS

_READ = [dict(type='LoadImageFromFile'), dict(type='fade_mm.LoadTrimap')]
_PACK = [dict(type='fade_mm.PackMattingInputs')]


@HOSTS.register_module()
class MattingHost(Host):
    """Image matting: a picture and its trimap in, alpha out."""

    models = ('fade_mm.hosts.matting.a2u_matting.A2UMatting',)
    task = 'matting'
    second = 'trimap'

    def name_of(self, model: dict) -> str | None:
        width = model.get('base_channels', 64) / 64
        return 'A2U Matting R34' + ('' if width == 1 else f' x{width:g}')

    def keep_predictions(self, cfg: dict, path: str) -> None:
        """Write alphas as PNG files."""
        if os.path.isfile(path) or os.path.splitext(path)[1]:
            raise SetupError(f'--out takes a folder for alphas, got {path}')
        writer = dict(type='fade_mm.PredictionHook', folder=path)
        cfg.custom_hooks = [*(cfg.get('custom_hooks') or []), writer]

    def as_picture(self, cfg: dict, prediction: BaseDataElement) -> np.ndarray:
        """Alpha, ``(h, w)``, uint8."""
        return np.rint(255 * prediction.pred_alpha.cpu().numpy()).astype(np.uint8)

    def check_second(self, path: Path, second: Path) -> None:
        """Raise where a file is no trimap, or not that of a picture."""
        self._read(_READ, path, second)

    def predict(self, model: nn.Module, path: Path, second: Path | None = None):
        sample = self._read(_READ + _PACK, path, second)
        with torch.no_grad():
            return model.test_step(pseudo_collate([sample]))[0]

    def _read(self, steps: list[dict], path: Path, second: Path) -> dict:
        return Compose(steps)(dict(img_path=str(path), trimap_path=str(second)))

    def drawn(self, model: nn.Module, picture: np.ndarray, prediction) -> dict[str, np.ndarray]:
        """The drawing, alpha, and what it cuts out, with transparency."""
        from .foreground import estimate_foreground

        alpha = self.as_picture(model.cfg, prediction)
        colours = estimate_foreground(picture, prediction.pred_alpha.cpu().numpy())
        return {
            **super().drawn(model, picture, prediction),
            '.alpha': alpha,
            '.cutout': np.dstack([colours, alpha]),
        }

    def picture_of(self, sample: dict) -> np.ndarray:
        picture = sample['inputs'].permute(1, 2, 0).cpu().numpy()
        return np.ascontiguousarray(np.rint(picture).clip(0, 255).astype(np.uint8))

    def dataset_meta(self, cfg: dict, checkpoint: dict) -> dict:
        return {}  # there are no classes

    def input_size(self, cfg: dict) -> tuple[int, int]:
        return 512, 512

    def exported(self, model: nn.Module) -> Exported:
        from .export import ExportedMatting
        from .network import STRIDE
        from .sample import BACKGROUND, FOREGROUND, UNKNOWN

        return Exported(
            ExportedMatting(model).eval(),
            {'image': 3, 'trimap': 1},
            'alpha',
            note=(
                f'height and width must be multiples of {STRIDE}: pad pictures at the bottom and '
                'to the right by reflection, and crop alpha; trimaps have 0, 128 and 255'
            ),
            multiple=STRIDE,
            values={'trimap': (BACKGROUND, UNKNOWN, FOREGROUND)},
        )
