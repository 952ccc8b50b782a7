"""Parameters and multiply-adds of whole models."""

import torch
from mmengine.analysis import FlopAnalyzer
from mmengine.config import Config
from torch import Tensor, nn

from fade_mm.errors import SetupError
from fade_mm.hosts.base import host_of
from fade_mm.run.models import build_model
from fade_mm.upsamplers import Upsampler, named_upsamplers

from .flops import count_as_published


def predicting_model(cfg: Config) -> nn.Module:
    """The model of a config as it predicts: no pretrained weights, nothing that only trains.

    Args:
        cfg: The whole config.

    Raises:
        SetupError: the model cannot be built.
    """
    model = build_model(cfg)
    host_of(cfg).prune(model)
    return model


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
        model: From `predicting_model`; it stays as it is.
        shape: Height and width of the image, in pixels.

    Raises:
        SetupError: the model takes no image of that size, or no image alone.
    """
    host = host_of(model)
    failures = []
    for mode in ('tensor', 'predict'):
        analysis = FlopAnalyzer(
            host.single_pass(model, shape, mode), (torch.rand(1, host.channels(model), *shape),)
        )
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        try:
            return int(analysis.total())
        except Exception as error:
            failures.append(f"mode='{mode}': {type(error).__name__}: {error}")
    raise SetupError(
        f'the model cannot be counted at {shape[0]} x {shape[1]}:\n  ' + '\n  '.join(failures)
    )


class HostCount:
    """Multiply-adds, as the papers count them, of models that differ in their upsamplers alone.

    One such model is counted as a whole, of the others the upsamplers, which is much quicker.

    Args:
        model: From `predicting_model`, with upsamplers if the others have any.
        shape: Height and width of the image.
    """

    def __init__(self, model: nn.Module, shape: tuple[int, int]) -> None:
        self._sizes = {}
        host = host_of(model)
        single = host.single_pass(model, shape)
        for name, up in named_upsamplers(single.model):
            up.register_forward_pre_hook(lambda _, args, name=name: self._record(name, args))
        image = torch.rand(1, host.channels(model), *shape)
        total = count_as_published(single, (image,))
        self._host = total - self._upsampling(model)

    def __call__(self, model: nn.Module) -> int:
        """Multiply-adds of a model that differs from the first in its upsamplers alone."""
        return self._host + self._upsampling(model)

    def _record(self, name: str, args: tuple[Tensor, ...]) -> None:
        self._sizes[name] = [[int(n) for n in x.shape] for x in args]

    def _upsampling(self, model: nn.Module) -> int:
        return sum(
            count_as_published(_AsInHost(up), tuple(torch.rand(size) for size in self._sizes[name]))
            for name, up in named_upsamplers(model)
        )


class _AsInHost(nn.Module):
    """An upsampler, called as its host calls it."""

    def __init__(self, up: Upsampler) -> None:
        super().__init__()
        self.up = up

    def forward(self, en: Tensor, de: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        return self.up.pair(en, de) if self.up.skip else self.up(en, de)
