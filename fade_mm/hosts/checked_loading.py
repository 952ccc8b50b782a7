"""A look at each file before a library's transform reads it."""

from collections.abc import Callable

from mmengine import fileio

from fade_mm.errors import SetupError

from .orientation import turned


class CheckedLoading:
    """A transform that reads a map of a picture's pixels, after a look at each file, once.

    A subclass defines `check`.

    Args:
        load: The transform.
    """

    key: str  # of a file's path in a sample

    def __init__(self, load: Callable) -> None:
        self.load = load
        self.seen = set()

    def __getattr__(self, name: str):
        if name.startswith('__') or name == 'load':
            raise AttributeError(name)
        return getattr(self.load, name)

    def __call__(self, sample: dict) -> dict:
        path = sample[self.key]
        if path not in self.seen:
            self.check(fileio.get(path, backend_args=self.load.backend_args), path, sample)
            self.seen.add(path)
        return self.load(sample)

    def check(self, content: bytes, path: str, sample: dict) -> None:
        """Raise where a file's content is not what the transform takes it for."""
        raise NotImplementedError(f'{type(self).__name__} must define check(content, path, sample)')


def check_size(size: tuple[int, int], path: str, sample: dict) -> None:
    """Raise where a map has not the size of its picture.

    Args:
        size: Rows and columns of the map.
        path: Its file.
        sample: Of which ``img_path`` and ``ori_shape`` are the picture's, if it is read already.

    Raises:
        SetupError: with both sizes, and whether the picture's file asks to be turned.
    """
    expected = tuple(sample.get('ori_shape', size)[:2])
    if size != expected:
        raise SetupError(
            f'{path} has {size[0]} rows and {size[1]} columns, its picture '
            f'{sample.get("img_path")} {expected[0]} and {expected[1]}{turned(sample["img_path"])}'
        )
