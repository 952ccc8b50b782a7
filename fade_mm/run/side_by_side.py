"""What the tools share that lay the predictions of several models side by side."""

import argparse
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS
from mmengine.structures import BaseDataElement
from torch import nn
from torch.utils.data import Dataset

from fade_mm.errors import SetupError
from fade_mm.hosts.base import in_scope_of

from .config import check_weights, load_config
from .models import init_model
from .naming import upsampler_of
from .tool import ToolParser

_GAP, _CAPTION = 4, 24  # pixels


class SideBySideParser(ToolParser):
    """The arguments of such a tool: models, pictures, and the file to write."""

    def __init__(self, description: str) -> None:
        super().__init__(
            description,
            'work_dirs/A/A.py work_dirs/A/last.pth work_dirs/B/B.py work_dirs/B/last.pth '
            '--out picture.png',
        )
        self.add_argument(
            'models', nargs='+', metavar='CONFIG CHECKPOINT', help='one pair for each model'
        )
        self.add_argument('--out', type=Path, required=True, help='the .png file to write')
        self.add_argument(
            '--pictures', nargs='+', metavar='NAME', help="names of the test set's pictures"
        )
        self.add_argument(
            '--rows', type=int, default=3, help='how many, without names (default: 3)'
        )
        self.add_cfg_options()

    def parse_args(self, *args, **kwargs) -> argparse.Namespace:
        parsed = super().parse_args(*args, **kwargs)
        if len(parsed.models) % 2:
            self.error('each model is a config and a checkpoint')
        if parsed.out.suffix != '.png' or parsed.rows < 1:
            self.error('--out must end in .png, and --rows be positive')
        if not parsed.out.parent.is_dir():
            self.error(f'there is no folder {parsed.out.parent} to write {parsed.out.name} into')
        return parsed


def models_of(
    args: argparse.Namespace, check: Callable[[Config], object]
) -> Iterator[tuple[str, Config, nn.Module]]:
    """The models that were named, one after the other: name, config and model.

    Args:
        args: As parsed.
        check: Raises where a config is not for this tool; all are asked before a model is built.
    """
    paths, checkpoints = args.models[::2], args.models[1::2]
    check_weights(checkpoints)
    cfgs = [load_config(path, args.cfg_options) for path in paths]
    for cfg in cfgs:
        check(cfg)
    for cfg, checkpoint in zip(cfgs, checkpoints, strict=True):
        yield upsampler_of(cfg) or Path(cfg.filename).stem, cfg, init_model(cfg, checkpoint)


def test_set_of(cfg: Config) -> Dataset:
    """The pictures that a config tests on."""
    with in_scope_of(cfg):
        return DATASETS.build(cfg.test_dataloader.dataset)


class ShownPictures:
    """Which pictures of the test set are shown: the same of each model.

    Args:
        names: Those to show, without endings, if any are named.
        rows: How many otherwise, spread evenly over the set.
    """

    def __init__(self, names: list[str] | None, rows: int) -> None:
        self.names, self.rows, self.first = names, rows, None

    def of(self, cfg: Config, paths: list[str]) -> list[int]:
        """Their places in a config's test set.

        Args:
            cfg: Whose test set it is.
            paths: Of its pictures; the first of several of a name is it.

        Raises:
            SetupError: there is no picture of a name, or the first model was tested on others.
        """
        stems = [Path(path).stem for path in paths]
        if not stems:
            raise SetupError('the test set has no pictures')
        missing = [name for name in self.names or () if name not in stems]
        if missing:
            raise SetupError(
                f'the test set has no picture {", ".join(missing)}, but {stems[0]}, ...'
            )
        count = min(self.rows, len(stems))
        evenly = [int((i + 0.5) * len(stems) / count) for i in range(count)]
        places = [stems.index(name) for name in self.names] if self.names else evenly
        shown = [os.path.realpath(paths[place]) for place in places]
        self.first = self.first or shown
        if shown != self.first:
            raise SetupError(
                f'{cfg.filename} is tested on other pictures than the first model: '
                f'{", ".join(shown)}; not {", ".join(self.first)}'
            )
        return places


def predicted(model: nn.Module, sample: dict) -> BaseDataElement:
    """What a model predicts for a sample of its data set."""
    with in_scope_of(model.cfg), torch.no_grad():
        return model.test_step(pseudo_collate([sample]))[0]


def captioned(picture: np.ndarray, text: str) -> np.ndarray:
    """A picture with a line of text above, and a gap on its right."""
    height, width = picture.shape[:2]
    font = cv2.FONT_HERSHEY_SIMPLEX, 0.45
    wide = max(width, 2 + cv2.getTextSize(text, *font, 1)[0][0])
    tile = np.full((height + _CAPTION, wide + _GAP, 3), 255, np.uint8)
    tile[_CAPTION:, :width] = picture
    return cv2.putText(tile, text, (2, _CAPTION - 8), *font, (0, 0, 0), 1, cv2.LINE_AA)


def write_rows(rows: list[list[np.ndarray]], path: Path) -> None:
    """Write rows of pictures, each row of one height, as one picture."""
    lines = [np.hstack(row) for row in rows]
    width = max(line.shape[1] for line in lines)
    padded = [
        np.pad(x, ((0, 0), (0, width - x.shape[1]), (0, 0)), constant_values=255) for x in lines
    ]
    if not cv2.imwrite(str(path), np.vstack(padded)):
        raise SetupError(f'{path} cannot be written')
    print(f'written: {path}')
