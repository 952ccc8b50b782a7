"""A detector as its multiply-adds are counted."""

import torch
from mmengine.structures import InstanceData
from torch import nn

from fade_mm.hosts.traced import SinglePass

NUM_PROPOSALS = 1000


class DetectorPass(SinglePass):
    """A copy of a detector in which a fixed number of proposals takes the place of its own.

    How many a model with random weights proposes is chance.

    Args:
        model, shape, mode: As in `SinglePass`.
    """

    def __init__(self, model: nn.Module, shape: tuple[int, int], mode: str) -> None:
        super().__init__(model, shape, mode)
        proposer = getattr(self.model, 'rpn_head', None)
        if hasattr(proposer, 'predict_by_feat'):
            proposer.predict_by_feat = self._propose
        elif proposer is not None:
            proposer.init_weights()  # learned proposals: Sparse R-CNN
        elif hasattr(self.model, 'roi_head'):  # Fast R-CNN
            self.sample.proposals = self._propose()[0]

    def _propose(self, *outputs, **kwargs) -> list[InstanceData]:
        self.unused = outputs  # the tracer forgets what leads to nothing
        height, width = self.sample.img_shape
        box = torch.tensor([0.0, 0.0, width / 2, height / 2])
        return [InstanceData(bboxes=box.repeat(NUM_PROPOSALS, 1))]
