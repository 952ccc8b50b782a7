"""Parameters and multiply-adds of whole models of mmdetection and mmsegmentation."""

import copy
import inspect

import torch
from mmengine.analysis import FlopAnalyzer
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import BaseDataElement, InstanceData
from torch import Tensor, nn

from fade_mm.analysis.flops import count_as_published
from fade_mm.engine import SetupError
from fade_mm.engine.errors import naming_build_errors
from fade_mm.upsamplers import named_upsamplers

NUM_PROPOSALS = 1000


def build_model(cfg: Config) -> nn.Module:
    """The model of a config as it predicts: no pretrained weights, no auxiliary heads.

    Args:
        cfg: The whole config, of either library.

    Raises:
        SetupError: the model cannot be built.
    """
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope')), naming_build_errors():
        model = MODELS.build(cfg.model)
    if getattr(model, 'auxiliary_head', None) is not None:
        model.auxiliary_head = None
    return model.eval()


def count_parameters(model: nn.Module) -> int:
    """Number of parameters, whether they are trained or frozen."""
    return sum(p.numel() for p in model.parameters())


def count_flops(model: nn.Module, shape: tuple[int, int]) -> int:
    """Multiply-adds as mmengine counts them, with our operators.

    Counted are products (convolutions, linear layers, attention, reassembly), and per value norms,
    interpolation and pooling; not counted are other elementwise operators, RoI pooling and
    post-processing. Two-stage detectors get 1,000 proposals, the first 100 with masks
    (in cascades, all). A model whose library has no plain forward without ground truth is counted
    as it predicts, with what of its post-processing counts, and with whatever number of instances
    its random weights find.

    Args:
        model: From `build_model`; it stays as it is.
        shape: Height and width of the image, in pixels.

    Raises:
        SetupError: the model takes no image of that size, or no image alone.
    """
    failures = []
    for mode in ('tensor', 'predict'):
        analysis = FlopAnalyzer(SinglePass(model, shape, mode), (torch.rand(1, 3, *shape),))
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        try:
            return int(analysis.total())
        except Exception as error:
            failures.append(f"mode='{mode}': {type(error).__name__}: {error}")
    raise SetupError(
        f'the model cannot be counted at {shape[0]} x {shape[1]}:\n  ' + '\n  '.join(failures)
    )


class SinglePass(nn.Module):
    """A copy of a model, in evaluation mode, that is called with an image alone.

    It is a copy because proposals of a fixed number take the place of what the model proposes, and
    because mmengine's analyser leaves its hooks in a model that fails.

    Args:
        model: From `build_model`.
        shape: Height and width of the image.
        mode: ``'tensor'``: without post-processing; ``'predict'``: with it. Default: ``'tensor'``.
    """

    def __init__(self, model: nn.Module, shape: tuple[int, int], mode: str = 'tensor') -> None:
        super().__init__()
        self.model = model = copy.deepcopy(model).eval()
        self.mode = mode
        self.sample = BaseDataElement(
            metainfo={
                **dict.fromkeys(
                    ('img_shape', 'ori_shape', 'pad_shape', 'batch_input_shape'), shape
                ),
                'scale_factor': (1.0, 1.0),
            }
        )
        self._unused = ()
        proposer = getattr(model, 'rpn_head', None)
        if hasattr(proposer, 'predict_by_feat'):
            proposer.predict_by_feat = self._propose
        elif proposer is not None:
            proposer.init_weights()  # learned proposals: Sparse R-CNN
        elif hasattr(model, 'roi_head'):  # Fast R-CNN
            self.sample.proposals = self._propose()[0]

    def forward(self, image: Tensor) -> object:
        """What the heads make of an image ``(1, 3, h, w)``."""
        head = getattr(self.model, 'decode_head', None)
        if head is not None and 'batch_data_samples' in inspect.signature(head.forward).parameters:
            return head(self.model.extract_feat(image), [self.sample])
        if self.mode == 'predict':
            results = self.model(image, [self.sample.clone()], mode='predict')
            return [_tensors(result) for result in results], self._unused
        return self.model(image, [self.sample], mode='tensor'), self._unused

    def _propose(self, *outputs, **kwargs) -> list[InstanceData]:
        """Proposals of a fixed number: how many random weights make is chance."""
        self._unused = outputs  # the tracer forgets what leads to nothing
        height, width = self.sample.img_shape
        box = torch.tensor([0.0, 0.0, width / 2, height / 2])
        return [InstanceData(bboxes=box.repeat(NUM_PROPOSALS, 1))]


def _tensors(result: BaseDataElement) -> list[Tensor]:
    """All tensors in a prediction."""
    found = []
    for value in result.values():
        found += _tensors(value) if isinstance(value, BaseDataElement) else [value]
    return [value for value in found if isinstance(value, Tensor)]


class HostCount:
    """Multiply-adds, as the papers count them, of models that differ in their upsamplers alone.

    One such model is counted as a whole, of the others the upsamplers, which is much quicker.

    Args:
        model: From `build_model`, with upsamplers if the others have any.
        shape: Height and width of the image.
    """

    def __init__(self, model: nn.Module, shape: tuple[int, int]) -> None:
        self._sizes = {}
        single = SinglePass(model, shape)
        for name, up in named_upsamplers(single.model):
            up.register_forward_pre_hook(lambda _, args, name=name: self._record(name, args))
        total = count_as_published(single, (torch.rand(1, 3, *shape),))
        self._host = total - self._upsampling(model)

    def __call__(self, model: nn.Module) -> int:
        """Multiply-adds of a model that differs from the first in its upsamplers alone."""
        return self._host + self._upsampling(model)

    def _record(self, name: str, args: tuple[Tensor, ...]) -> None:
        self._sizes[name] = [[int(n) for n in x.shape] for x in args]

    def _upsampling(self, model: nn.Module) -> int:
        return sum(
            count_as_published(up, tuple(torch.rand(size) for size in self._sizes[name]))
            for name, up in named_upsamplers(model)
        )
