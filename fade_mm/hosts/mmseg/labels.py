"""Label maps as they are in their files."""

import mmcv

from fade_mm.errors import SetupError
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
