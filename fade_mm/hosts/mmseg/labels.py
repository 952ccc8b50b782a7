"""Label maps as they are in their files."""

import logging
import os

import mmcv
from mmengine import fileio
from mmengine.logging import print_log
from mmseg.datasets import BaseSegDataset

from fade_mm.errors import SetupError, counted
from fade_mm.hosts.checked_loading import CheckedLoading, check_size


class CheckedLabels(CheckedLoading):
    """mmsegmentation's transform that reads label maps, after a look at each file.

    What does not fit would be made to: the transform reads labels as 8-bit numbers, and a loss
    resizes predictions to labels of any size.
    """

    key = 'seg_map_path'

    def check(self, content: bytes, path: str, sample: dict) -> None:
        """Raise where labels have colours, are too large, or not of the picture's size."""
        labels = mmcv.imfrombytes(content, 'unchanged', backend=self.load.imdecode_backend)
        labels = labels.squeeze()
        if labels.ndim != 2:
            raise SetupError(
                f'{path} has {labels.shape[-1]} channels; a label map has one, whose values are '
                'the numbers of classes (a PNG with a palette has)'
            )
        if labels.max() > 255:
            raise SetupError(f'{path} has label {labels.max()}; labels are 8-bit numbers, 0 to 255')
        check_size(labels.shape, path, sample)


def tell_left_out(dataset: BaseSegDataset, place: str) -> None:
    """Warn of label maps whose picture is not there, which mmsegmentation leaves out in silence.

    Nothing is said where a list names the pictures, or where they are not on a local disk.

    Args:
        dataset: The data set.
        place: The key of its data loader, for the message.
    """
    pairs_by_name = getattr(type(dataset), 'load_data_list', None) is BaseSegDataset.load_data_list
    if not pairs_by_name or os.path.isfile(dataset.ann_file) or _is_remote(dataset):
        return
    pictures, maps = dataset.data_prefix['img_path'], dataset.data_prefix['seg_map_path']
    there = set(_below(pictures, dataset.img_suffix))
    alone = sorted(x for x in _below(maps, dataset.seg_map_suffix) if x not in there)
    if alone:
        label_map = os.path.join(maps, alone[0] + dataset.seg_map_suffix)
        picture = os.path.join(pictures, alone[0] + dataset.img_suffix)
        print_log(
            f'{place}: {counted(len(alone), "label map is", "label maps are")} left out, for there '
            f'is no picture {picture} for {label_map}'
            + (', and so on' if len(alone) > 1 else '')
            + '; put it there, or write as img_suffix what the names of all pictures end in',
            'current',
            logging.WARNING,
        )


def _is_remote(dataset: BaseSegDataset) -> bool:
    return (dataset.backend_args or {}).get('backend', 'local') not in ('local', 'disk')


def _below(folder: str, suffix: str) -> list[str]:
    """The files in a folder or below it that end in a suffix, by their names without it."""
    names = fileio.list_dir_or_file(folder, list_dir=False, suffix=suffix, recursive=True)
    return [name.removesuffix(suffix) for name in names]
