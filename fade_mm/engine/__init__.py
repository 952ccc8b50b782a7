"""The old place of `fade_mm.run` and of `fade_mm.papers.fade_segformer`."""

from fade_mm.hosts import host_of  # says what to install, if anything is missing

# isort: split
from mmengine.config import Config

from fade_mm.papers.fade_segformer import load_official_segformer
from fade_mm.run import *  # noqa: F403
from fade_mm.run import __all__ as _names


def check_packages(cfg: Config) -> None:
    """The old name of what a config's host checks before a run."""
    host_of(cfg).check_run(cfg)


__all__ = [*_names, 'check_packages', 'load_official_segformer']
