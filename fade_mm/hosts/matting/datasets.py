"""Data sets of mattes: pictures with alphas, and foregrounds composed of any background."""

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
from mmengine.dataset import BaseDataset
from mmengine.logging import print_log
from mmengine.utils import scandir
from PIL import Image, UnidentifiedImageError

from fade_mm.errors import SetupError, listed
from fade_mm.registry import DATASETS

from . import loading, transforms  # noqa: F401  (pipelines name mmcv's transforms, too)

_ENDINGS = ('.bmp', '.jpeg', '.jpg', '.png', '.tif', '.tiff', '.webp')
_COMPOSITES = 5  # of each foreground, in validation


@DATASETS.register_module()
class MattingDataset(BaseDataset):
    """Pictures with their trimaps and, to measure against, their alphas.

    They lie in three folders, by the same names but for the ending, or are listed. A picture
    without trimap gets one that is made from its alpha, and the log says of how many it is.

    Args:
        ann_file: A file with a line for each picture: the paths of picture, alpha and trimap,
            below ``data_root``, with tabs between them (Composition-1K's ``test.txt``). Default:
            none.
        data_prefix: The three folders, below ``data_root``, if nothing is listed; without
            ``alpha_path`` or ``trimap_path``, there are none. Default: ``image``, ``alpha`` and,
            if it is there, ``trimap``.
        subset: A name, so that a metric may score it alone (`MattingMetric`). Default: none.
        **kwargs: As in mmengine's ``BaseDataset``.

    Raises:
        FileNotFoundError: a folder or the list is missing.
        SetupError: there are no pictures, or alphas or trimaps are missing.
    """

    def __init__(
        self,
        ann_file: str = '',
        data_prefix: dict | None = None,
        subset: str | None = None,
        **kwargs,
    ) -> None:
        folders = dict(img_path='image', alpha_path='alpha')
        if os.path.isdir(os.path.join(kwargs.get('data_root') or '', 'trimap')):
            folders['trimap_path'] = 'trimap'
        self.subset = subset
        super().__init__(
            ann_file=ann_file,
            data_prefix=dict(folders if data_prefix is None else data_prefix),
            **kwargs,
        )

    def load_data_list(self) -> list[dict]:
        """Paths of pictures, alphas and trimaps."""
        samples = self._listed() if self.ann_file else self._found()
        alone = [x['img_path'] for x in samples if not {'alpha_path', 'trimap_path'} & x.keys()]
        if alone:
            raise SetupError(
                f'{len(alone)} pictures have neither a trimap nor an alpha to make one from:\n  '
                f'{listed(alone)}'
            )
        made = sum('trimap_path' not in x for x in samples)
        if made:
            print_log(
                f'{made} of {len(samples)} pictures of {self.data_root} have no trimap; it is made '
                'from their alphas, which is easier than a drawn one',
                'current',
                30,  # a warning
            )
        return [dict(x, subset=self.subset) for x in samples]

    def _listed(self) -> list[dict]:
        keys = ('img_path', 'alpha_path', 'trimap_path')
        samples = []
        for number, line in enumerate(_lines(self.ann_file), 1):
            names = line.split('\t')
            if len(names) != len(keys):
                raise SetupError(
                    f'{self.ann_file}, line {number} has {len(names)} paths; it needs those of '
                    'picture, alpha and trimap, with tabs between them'
                )
            paths = (os.path.join(self.data_root, name) for name in names)
            samples.append(dict(zip(keys, paths, strict=True)))
        return samples

    def _found(self) -> list[dict]:
        samples = [dict(img_path=path) for path in pictures_in(self.data_prefix['img_path'])]
        for key in ('alpha_path', 'trimap_path'):
            if key in self.data_prefix:
                _pair(samples, self.data_prefix, 'img_path', key)
        missing = [x['img_path'] for x in samples if 'alpha_path' not in x]
        if missing and 'alpha_path' in self.data_prefix:
            raise SetupError(
                f'{len(missing)} pictures have no alpha of their name in '
                f'{self.data_prefix["alpha_path"]}:\n  {listed(missing)}'
            )
        return samples


@DATASETS.register_module()
class CompositionDataset(BaseDataset):
    """Foregrounds with alphas, each composed of another background whenever it is seen.

    A sample has the paths of one foreground, in turn, of a random background and of a random second
    foreground (`CompositeFg`). Foregrounds are pictures with an alpha of the same name, or pictures
    with transparency, which are both at once.

    Args:
        backgrounds: A folder of any pictures, there or in folders below, or a ``.txt`` file that
            lists some; not joined with ``data_root``.
        data_prefix: The folders of foregrounds and alphas below ``data_root``, or two ``.txt``
            files that list them line by line. Without ``alpha_path``, all foregrounds need to have
            transparency. Default: ``fg`` and ``alpha``.
        holdout: In order of their names, each ``holdout``-th foreground and background is left out
            of training and used in testing (``test_mode=True``) alone. Fewer backgrounds than that
            are used in both. Default: 0, all are used in both.
        seed: What is drawn for a sample follows from it and the sample's number, so that samples
            are the same in every run and process. Default: ``None``, nothing is fixed; in test
            mode: 0.
        length: How many samples there are. Default: as many as backgrounds, or foregrounds if these
            are more; in test mode, five for each foreground.
        subset: A name, so that a metric may score it alone (`MattingMetric`). Default: none.
        **kwargs: As in mmengine's ``BaseDataset``.

    Paths in a ``.txt`` file are relative to the folder that it lies in.

    Raises:
        FileNotFoundError: a folder or a list of foregrounds or alphas is missing.
        SetupError: there are no foregrounds or backgrounds, foregrounds have no alpha, or none is
            left out.
    """

    def __init__(
        self,
        backgrounds: str,
        data_prefix: dict | None = None,
        holdout: int = 0,
        seed: int | None = None,
        length: int | None = None,
        subset: str | None = None,
        test_mode: bool = False,
        **kwargs,
    ) -> None:
        self.backgrounds = backgrounds
        self.holdout = holdout
        self.seed = 0 if test_mode and seed is None else seed
        self.length = length
        self.subset = subset
        folders = dict(fg_path='fg', alpha_path='alpha')
        super().__init__(
            data_prefix=dict(folders if data_prefix is None else data_prefix),
            test_mode=test_mode,
            **kwargs,
        )

    def load_data_list(self) -> list[dict]:
        """Paths of foregrounds, alphas and backgrounds."""
        foregrounds, backgrounds = self._foregrounds(), self._backgrounds()
        if self.holdout:
            few = len(foregrounds) < self.holdout
            if few or self.holdout < 2:
                fit = f'it must be 2 to {len(foregrounds)}'
                if len(foregrounds) == 1:
                    fit = 'it takes two at least, to learn from one and judge by the other'
                raise SetupError(
                    f'holdout={self.holdout} leaves {"none" if few else "all"} of '
                    f'{len(foregrounds)} foregrounds out of training; {fit}'
                )
            foregrounds = self._part(foregrounds)
            if len(backgrounds) >= self.holdout:
                backgrounds = self._part(backgrounds)
        self._fgs, self._bgs = foregrounds, backgrounds
        longest = max(len(foregrounds), len(backgrounds))
        usual = _COMPOSITES * len(foregrounds) if self.test_mode else longest
        return [
            dict(
                foregrounds[i % len(foregrounds)],
                bg_path=backgrounds[i % len(backgrounds)],
                subset=self.subset,
            )
            for i in range(self.length or usual)
        ]

    def prepare_data(self, idx: int) -> dict:
        """A sample, with what is drawn for it."""
        info = self.get_data_info(idx)
        with nullcontext() if self.seed is None else drawn_from(self.seed, idx):
            info['bg_path'] = self._bgs[np.random.randint(len(self._bgs))]
            second = self._fgs[np.random.randint(len(self._fgs))]
            info.update({key.replace('_path', '2_path'): path for key, path in second.items()})
            return self.pipeline(info)

    def _foregrounds(self) -> list[dict]:
        samples = [dict(fg_path=path) for path in pictures_in(self.data_prefix['fg_path'])]
        alphas = self.data_prefix.get('alpha_path')
        if alphas:
            _pair(samples, self.data_prefix, 'fg_path', 'alpha_path')
        missing = [
            x['fg_path']
            for x in samples
            if 'alpha_path' not in x and not _has_transparency(x['fg_path'])
        ]
        if missing:
            place = f'an alpha of their name in {alphas}' if alphas else 'alphas'
            advice = '' if alphas else " (data_prefix's alpha_path names a folder of alphas)"
            raise SetupError(
                f'{len(missing)} foregrounds have neither {place} nor transparency{advice}:\n  '
                f'{listed(missing)}'
            )
        return samples

    def _backgrounds(self) -> list[str]:
        try:
            return pictures_in(self.backgrounds)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise SetupError(
                f'there is no folder or list {self.backgrounds} of photographs to lay foregrounds '
                "on; say where it is with the data set's `backgrounds`, e.g. --cfg-options "
                'train_dataloader.dataset.backgrounds=DIR val_dataloader.dataset.backgrounds=DIR'
            ) from error

    def _part(self, items: list) -> list:
        out = self.holdout - 1
        return [x for i, x in enumerate(items) if (i % self.holdout == out) == self.test_mode]


@contextmanager
def drawn_from(*numbers: int) -> Iterator[None]:
    """Within, Python's and numpy's generators follow from some numbers; then they go on."""
    before = random.getstate(), np.random.get_state()
    words = np.random.SeedSequence(numbers).generate_state(4)
    random.seed(words.tobytes())
    np.random.seed(words)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])


def pictures_in(place: str) -> list[str]:
    """The paths of pictures in a folder and those below it, in order, or in a list.

    Args:
        place: The folder, or a ``.txt`` file with a path a line, relative to its own folder.

    Raises:
        FileNotFoundError: it is not there.
        SetupError: there are none.
    """
    if place.endswith('.txt'):
        paths = [os.path.join(os.path.dirname(place), line) for line in _lines(place)]
    else:
        names = scandir(place, _ENDINGS, recursive=True, case_sensitive=False)
        paths = [os.path.join(place, name) for name in sorted(names)]
    if not paths:
        raise SetupError(f'there are no pictures in {place} ({", ".join(_ENDINGS)})')
    return paths


def _pair(samples: list[dict], places: dict, key: str, other: str) -> None:
    """Give samples the pictures of their names, or of their lines where these are listed."""
    paths = pictures_in(places[other])
    if places[other].endswith('.txt'):
        if len(paths) != len(samples):
            raise SetupError(
                f'{places[other]} has {len(paths)} lines; there are {len(samples)} pictures'
            )
        partners = paths
    else:
        named = {_name(path, places[other]): path for path in paths}
        partners = [named.get(_name(x[key], places[key])) for x in samples]
    for sample, path in zip(samples, partners, strict=True):
        if path:
            sample[other] = path


def _name(path: str, place: str) -> str:
    """What a picture and its alpha share: the path below the folder, but for the ending."""
    top = os.path.dirname(path) if place.endswith('.txt') else place
    return os.path.splitext(os.path.relpath(path, top))[0]


def _lines(path: str) -> list[str]:
    return [line.strip() for line in Path(path).read_text().splitlines() if line.strip()]


def _has_transparency(path: str) -> bool:
    try:
        with Image.open(path) as picture:
            return 'A' in picture.getbands() or 'transparency' in picture.info
    except (OSError, UnidentifiedImageError):
        return True  # whoever reads it says what is wrong
