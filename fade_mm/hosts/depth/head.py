"""What heads that predict depth have in common."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.model import ModuleList
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.registry import MODELS as MMSEG_MODELS
from torch import Tensor

from fade_mm.hosts.base import StandIn
from fade_mm.ops.geometry import fit_size
from fade_mm.upsamplers import build_upsampler

from .loss import SILogLoss

LOSS = dict(type=SILogLoss)


class DepthHead(StandIn, BaseDecodeHead):
    """A head of mmsegmentation's `DepthEstimator` that climbs from coarse to fine features.

    A subclass defines `forward`, which gives depth in metres, ``(N, 1, h, w)``, and calls `climb`
    for its steps.

    Args:
        in_channels: Channels of the backbone features, from fine to coarse.
        max_depth: The largest depth that can be predicted, in metres.
        upsample_cfg: Config of the upsamplers; see `build_upsampler`. Default: ``None``,
            nearest-neighbour interpolation.
        steps: Channels of encoder and decoder feature at each step, from coarse to fine.
        gating: FADE's gate where ``upsample_cfg`` says nothing of it; see `build_upsampler`.
        loss_decode: Config of a loss, called with predicted and true depth, or of several.
        init_cfg: As in mmengine's ``BaseModule``.
    """

    stock_upsampler = 'Nearest'
    num_classes = out_channels = 1  # mmsegmentation asks for all of these
    input_transform = ignore_index = None
    align_corners = False

    def __init__(
        self,
        in_channels: Sequence[int],
        max_depth: float,
        upsample_cfg: dict | None,
        steps: Sequence[tuple[int, int]],
        gating: bool | None,
        loss_decode: dict | Sequence[dict],
        init_cfg: dict | None,
    ) -> None:
        super(BaseDecodeHead, self).__init__(init_cfg)  # which has parts of a classifier
        if max_depth <= 0:
            raise ValueError(f'max_depth must be positive, in metres, got {max_depth}')
        self.in_channels = list(in_channels)
        self.max_depth = max_depth
        losses = [loss_decode] if isinstance(loss_decode, dict) else loss_decode
        self.loss_decode = ModuleList(MMSEG_MODELS.build(loss) for loss in losses)
        self.upsamplers = None
        if upsample_cfg is not None:
            self.upsamplers = ModuleList(
                build_upsampler(upsample_cfg, en, de, skip='concatenated', gating=gating)
                for en, de in steps
            )

    def climb(self, step: int, en: Tensor, de: Tensor) -> tuple[Tensor, Tensor]:
        """The encoder feature to concatenate, and the decoder feature at its size.

        Args:
            step: Which step it is, from 0, the coarsest.
            en, de: Encoder and decoder feature.
        """
        if self.upsamplers is None:
            return en, nearest(de, en.shape[2:], 2)
        return self.upsamplers[step].pair(en, de)

    def metres(self, logits: Tensor) -> Tensor:
        """Depth from what is to go through a sigmoid, in float32 at least."""
        return self.max_depth * logits.to(at_least_float32(logits)).sigmoid()

    def loss_by_feat(self, depth: Tensor, samples: Sequence) -> dict[str, Tensor]:
        """The losses of a batch, by name.

        Args:
            depth: What `forward` has predicted.
            samples: Data samples with ``gt_depth_map`` in metres, 0 where depth is not known.
        """
        truth = torch.stack([sample.gt_depth_map.data for sample in samples])
        depth = self.at_size(depth, truth.shape[2:])
        losses = {}
        for loss in self.loss_decode:
            losses[loss.loss_name] = losses.get(loss.loss_name, 0) + loss(depth, truth)
        return losses

    def predict_by_feat(self, depth: Tensor, batch_img_metas: list[dict]) -> Tensor:
        """Depth at the size of the network's input, padding included.

        Args:
            depth: What `forward` has predicted.
            batch_img_metas: The images' metainfo, in which a window's size is a ``torch.Size``.
        """
        meta = batch_img_metas[0]
        size = meta['img_shape']
        if not isinstance(size, torch.Size):
            size = meta.get('pad_shape', size)
        return self.at_size(depth, size[:2])

    def at_size(self, depth: Tensor, size: tuple[int, int]) -> Tensor:
        """What `forward` has predicted, at the size of the image; bilinear, by default."""
        return F.interpolate(depth, tuple(size), mode='bilinear', align_corners=False)

    def extra_repr(self) -> str:
        """The largest depth."""
        return f'max_depth={self.max_depth}'


def nearest(x: Tensor, size: tuple[int, int], factor: int) -> Tensor:
    """Each point of ``x`` ``(N, C, H, W)`` ``factor`` times along both axes, cropped to a size."""
    return fit_size(F.interpolate(x, scale_factor=float(factor), mode='nearest'), size)


def at_least_float32(x: Tensor) -> torch.dtype:
    """The dtype of a tensor, or float32 where that has fewer bits."""
    return torch.promote_types(x.dtype, torch.float32)
