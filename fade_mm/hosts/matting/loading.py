"""Reading pictures, trimaps and mattes, and packing them for a model."""

import mmcv
import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine.fileio import get
from torch import Tensor

from fade_mm.errors import SetupError
from fade_mm.hosts.orientation import turned
from fade_mm.registry import TRANSFORMS

from .sample import BACKGROUND, FOREGROUND, UNKNOWN, MattingSample
from .trimaps import trimap_of

_SAME_COLOUR = 16  # how far the channels of a grey JPEG that is stored in colour may differ


class Loader(BaseTransform):
    """Reads files.

    Args:
        backend_args: Where files are read from, as for mmcv's ``LoadImageFromFile``. Default:
            local disks.
    """

    def __init__(self, backend_args: dict | None = None) -> None:
        self.backend_args = backend_args

    def read(self, path: str, what: str, flag: str = 'unchanged') -> np.ndarray:
        """A picture as it is in its file, or as mmcv's ``flag`` says.

        Raises:
            SetupError: it is not there, or is no picture.
        """
        try:
            content = get(path, self.backend_args)
        except FileNotFoundError as error:
            raise SetupError(f'there is no {what} {path}') from error
        picture = mmcv.imfrombytes(content, flag=flag) if content else None
        if picture is None:
            raise SetupError(f'the {what} {path} cannot be read as a picture')
        return picture


@TRANSFORMS.register_module()
class LoadAlpha(Loader):
    """Reads the alpha matte of ``alpha_path`` as ``alpha``, ``(h, w)``, float32, 0 to 1.

    A matte is a grey picture of 8 or 16 bits, stored in colour or not, or the transparency of a
    picture that has one. Samples without ``alpha_path`` stay without alpha.

    Raises:
        SetupError: the file is missing or coloured, or has another size than the picture.
    """

    def transform(self, results: dict) -> dict:
        path = results.get('alpha_path')
        if path:
            results['alpha'] = alpha_in(self.read(path, 'alpha matte'), path)
            if 'img' in results:
                check_size(results['alpha'], path, results['img'], results.get('img_path', ''))
        return results


@TRANSFORMS.register_module()
class LoadTrimap(Loader):
    """Reads the trimap of ``trimap_path`` as ``trimap``, ``(h, w)``, uint8: 0, 128 and 255.

    A sample without ``trimap_path`` gets one that is made from its ``alpha``, if it has one.

    Args:
        kernel_size: How wide a made trimap is unknown: see `GenerateTrimap`. Default: 15, the
            middle of what training draws from.
        backend_args: See `Loader`.

    Raises:
        SetupError: the trimap is missing, has another size than the picture, is coloured or of 16
            bits, or has other values.
    """

    def __init__(self, kernel_size: int = 15, backend_args: dict | None = None) -> None:
        super().__init__(backend_args)
        self.kernel_size = kernel_size

    def transform(self, results: dict) -> dict:
        path = results.get('trimap_path')
        if path:
            trimap = self.read(path, 'trimap')
            check_trimap(trimap, path)
            results['trimap'] = trimap if trimap.ndim == 2 else trimap[..., 0].copy()
            check_size(results['trimap'], path, results['img'], results.get('img_path', ''))
        elif 'alpha' in results:
            results['trimap'] = trimap_of(results['alpha'], self.kernel_size, self.kernel_size)
        else:
            raise SetupError(
                f'{results.get("img_path", "a picture")} has no trimap, a grey picture of its size '
                'with 0 for background, 255 for foreground and 128 for what is to be found out'
            )
        return results


@TRANSFORMS.register_module()
class LoadForeground(Loader):
    """Reads ``fg``, ``(h, w, 3)``, BGR, uint8, and ``alpha``, ``(h, w)``, float32, 0 to 1.

    Colours come from ``fg_path``, and so does alpha, the picture's transparency, where there is no
    ``alpha_path``.

    Raises:
        SetupError: a file is missing, sizes differ, there is neither a matte nor transparency, or
            alpha is opaque or transparent everywhere.
    """

    def transform(self, results: dict) -> dict:
        results['fg'], results['alpha'] = self.foreground(
            results['fg_path'], results.get('alpha_path')
        )
        return results

    def foreground(self, path: str, alpha_path: str | None) -> tuple[np.ndarray, np.ndarray]:
        """Colours and alpha of one foreground."""
        if alpha_path:
            fg = self.read(path, 'foreground', 'color')
            alpha = alpha_in(self.read(alpha_path, 'alpha matte'), alpha_path)
            check_size(alpha, alpha_path, fg, path)
            check_cut_out(alpha, alpha_path)
            return fg, alpha
        picture = self.read(path, 'foreground')
        if picture.ndim != 3 or picture.shape[2] != 4:
            raise SetupError(f'the foreground {path} has no alpha matte and no transparency')
        top = np.iinfo(picture.dtype).max
        fg = (picture[..., :3] // (top // 255)).astype(np.uint8)
        alpha = picture[..., 3].astype(np.float32) / top
        check_cut_out(alpha, path)
        return fg, alpha


@TRANSFORMS.register_module()
class LoadBackground(Loader):
    """Reads ``bg`` from ``bg_path``, ``(h, w, 3)``, BGR, uint8."""

    def transform(self, results: dict) -> dict:
        results['bg'] = self.read(results['bg_path'], 'background', 'color')
        return results


@TRANSFORMS.register_module()
class PackMattingInputs(BaseTransform):
    """Packs what a matting model takes.

    Its result has ``inputs``, the picture ``(3, h, w)``, BGR, 0 to 255, with the type of ``img``
    (a composite is not rounded), and ``data_samples``, a `MattingSample` with ``trimap`` and, where
    they are there, ``gt_alpha``, ``gt_fg`` and ``gt_bg``.

    Args:
        meta_keys: What becomes metainfo, where it is there.
    """

    def __init__(
        self,
        meta_keys: tuple[str, ...] = (
            'img_path',
            'trimap_path',
            'alpha_path',
            'ori_shape',
            'img_shape',
            'subset',
        ),
    ) -> None:
        self.meta_keys = meta_keys

    def transform(self, results: dict) -> dict:
        sample = MattingSample(
            metainfo={key: results[key] for key in self.meta_keys if results.get(key) is not None}
        )
        sample.trimap = torch.from_numpy(np.ascontiguousarray(results['trimap']))[None]
        if 'alpha' in results:
            alpha = np.ascontiguousarray(results['alpha'], dtype=np.float32)
            sample.gt_alpha = torch.from_numpy(alpha)[None]
        for key in ('fg', 'bg'):
            if key in results:
                sample.set_data({f'gt_{key}': _channels_first(results[key]).float()})
        return dict(inputs=_channels_first(results['img']), data_samples=sample)


def _channels_first(picture: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))


def alpha_in(picture: np.ndarray, path: str) -> np.ndarray:
    """The matte that a picture is, ``(h, w)``, float32, 0 to 1.

    Args:
        picture: As it is in its file, with 1, 3 or 4 channels, of 8 or 16 bits.
        path: For the message.

    Raises:
        SetupError: it is coloured.
    """
    if picture.dtype not in (np.uint8, np.uint16):
        raise SetupError(
            f'the alpha matte {path} has {picture.dtype} values; 8 or 16 bits are read'
        )
    top = np.iinfo(picture.dtype).max
    if picture.ndim == 3 and picture.shape[2] == 4:  # its transparency, unless it is opaque
        opaque = picture[..., 3].min() == top
        picture = picture[..., :3] if opaque else picture[..., 3]
    if picture.ndim == 3:
        colour = picture.max(2) - picture.min(2)
        if colour.max() > _SAME_COLOUR * (top // 255):
            raise SetupError(
                f'the alpha matte {path} is coloured; a matte is grey, or transparency'
            )
        picture = picture.mean(2)
    return picture.astype(np.float32) / top


def check_cut_out(alpha: np.ndarray, path: str) -> None:
    """Raise where an alpha cuts nothing out.

    Raises:
        SetupError: it is opaque everywhere, or nowhere more than 1 % opaque, as where a mask has
            the values 0 and 1, or an alpha of 8 bits is stored in 16.
    """
    if alpha.min() == 1:
        raise SetupError(f'{path} is opaque everywhere, so that nothing is cut out')
    if alpha.max() < 0.01:
        raise SetupError(
            f'{path} is transparent everywhere: its largest alpha is {alpha.max():.2g}, where 1 is '
            'opaque (255 in 8 bits, 65535 in 16)'
        )


def check_trimap(trimap: np.ndarray, path: str) -> None:
    """Raise unless a picture is a trimap.

    Args:
        trimap: As it is in its file; three equal channels will do.
        path: For the message.

    Raises:
        SetupError: it is coloured, of 16 bits, or has other values than 0, 128 and 255.
    """
    if trimap.dtype != np.uint8:
        raise SetupError(f'the trimap {path} has {trimap.dtype} values; a trimap has 8 bits')
    if trimap.ndim == 3 and (trimap[..., :3] != trimap[..., :1]).any():
        raise SetupError(f'the trimap {path} is coloured; a trimap is grey')
    grey = trimap if trimap.ndim == 2 else trimap[..., 0]
    counts = np.bincount(grey.ravel(), minlength=256)
    counts[[BACKGROUND, UNKNOWN, FOREGROUND]] = 0
    others = np.flatnonzero(counts)
    if len(others):
        some = ', '.join(map(str, others[:4])) + ', ...' * (len(others) > 4)
        raise SetupError(
            f'the trimap {path} has the values {some}; a trimap has 0 (background), 128 (unknown) '
            'and 255 (foreground) alone, drawn without soft edges and saved as PNG, say, not JPEG'
        )


def check_size(matte: np.ndarray, path: str, picture: np.ndarray, picture_path: str) -> None:
    """Raise unless a trimap or a matte is as large as its picture.

    Raises:
        SetupError: it is not.
    """
    if matte.shape[:2] != picture.shape[:2]:
        (h, w), (rows, columns) = matte.shape[:2], picture.shape[:2]
        raise SetupError(
            f'{path} has {h} rows and {w} columns, its picture {picture_path} {rows} and {columns}'
            f'{turned(picture_path)}'
        )
