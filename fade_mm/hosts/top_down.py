"""The top-down path that necks and heads share: upsample a level and add it to the finer one."""

from collections.abc import Sequence

from mmengine.model import ModuleList
from torch import Tensor

from fade_mm.upsamplers import build_upsampler


def build_top_down(upsample_cfg: dict, channels: int, levels: int) -> ModuleList:
    """The upsamplers of a top-down path, from fine to coarse.

    Args:
        upsample_cfg: Config for `build_upsampler`.
        channels: Channels of every level.
        levels: Number of levels; one upsampler fewer is built.
    """
    return ModuleList(
        build_upsampler(upsample_cfg, channels, channels, skip='added') for _ in range(levels - 1)
    )


def top_down(laterals: Sequence[Tensor], upsamplers: ModuleList) -> list[Tensor]:
    """Merge lateral features from coarse to fine.

    Args:
        laterals: Features ``(N, C, h_i, w_i)``, from fine to coarse.
        upsamplers: One a pair of neighbours, from `build_top_down`.

    Returns:
        Features of the same sizes.
    """
    merged = list(laterals)
    for i in reversed(range(len(upsamplers))):
        en, y = upsamplers[i].pair(merged[i], merged[i + 1])
        merged[i] = en + y
    return merged
