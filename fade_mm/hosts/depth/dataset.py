"""Pictures with depth maps."""

from pathlib import PurePath

from mmengine import fileio
from mmengine.dataset import BaseDataset

from fade_mm.errors import SetupError
from fade_mm.registry import DATASETS

_FOLDERS = dict(img_path='images', depth_map_path='depth')


@DATASETS.register_module()
class DepthDataset(BaseDataset):
    """Pictures with depth maps, of two folders or as a list names them.

    Without ``ann_file``, each picture in a folder or below it belongs to the depth map of the same
    path, but for the suffix, in another. With one, each of its lines names a picture and a depth
    map below these folders, as BTS's lists do; what follows them, a focal length, is not used, and
    lines whose depth map is ``None`` are passed over.

    Args:
        ann_file: The list, below ``data_root``. Default: none.
        data_prefix: ``img_path`` and ``depth_map_path``, the folders below ``data_root``.
            Default: ``dict(img_path='images', depth_map_path='depth')``.
        img_suffix, depth_map_suffix: What names end in, without a list. Default: ``'.jpg'`` and
            ``'.png'``.
        backend_args: As in mmengine's ``fileio``. Default: ``None``, a local disk.
        **kwargs: Arguments of mmengine's ``BaseDataset``.

    Raises:
        SetupError: a line names no two files.
    """

    def __init__(
        self,
        ann_file: str = '',
        data_prefix: dict = _FOLDERS,
        img_suffix: str = '.jpg',
        depth_map_suffix: str = '.png',
        backend_args: dict | None = None,
        **kwargs,
    ) -> None:
        self.img_suffix = img_suffix
        self.depth_map_suffix = depth_map_suffix
        self.backend_args = backend_args
        super().__init__(ann_file=ann_file, data_prefix=data_prefix, **kwargs)

    def load_data_list(self) -> list[dict]:
        """The paths of all pictures and depth maps."""
        pairs = self._listed() if self.ann_file else self._found()
        folders = self.data_prefix['img_path'], self.data_prefix['depth_map_path']
        paths = [map(fileio.join_path, folders, pair) for pair in pairs]
        return [
            dict(img_path=picture, depth_map_path=depth, seg_fields=[]) for picture, depth in paths
        ]

    def _found(self) -> list[tuple[str, str]]:
        names = fileio.list_dir_or_file(
            self.data_prefix['img_path'],
            list_dir=False,
            suffix=self.img_suffix,
            recursive=True,
            backend_args=self.backend_args,
        )
        return [
            (name, name.removesuffix(self.img_suffix) + self.depth_map_suffix)
            for name in sorted(names)
        ]

    def _listed(self) -> list[tuple[str, str]]:
        pairs = []
        text = fileio.get_text(self.ann_file, backend_args=self.backend_args)
        for number, line in enumerate(text.splitlines(), 1):
            names = line.split()[:2]
            if not names or names[-1] == 'None':
                continue
            if len(names) < 2 or not PurePath(names[1]).suffix:
                raise SetupError(
                    f'{self.ann_file}, line {number}, must name a picture and its depth map, e.g. '
                    f"'kitchen/rgb_1.jpg kitchen/depth_1.png', got {line!r}"
                )
            pairs.append(tuple(name.lstrip('/') for name in names))
        return pairs
