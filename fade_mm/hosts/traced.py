"""A model as it is counted, and as an exported file has it."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from mmengine.structures import BaseDataElement
from torch import Tensor, nn


class SinglePass(nn.Module):
    """A copy of a model, in evaluation mode, that is called with an image alone.

    It is a copy because mmengine's analyser leaves its hooks in a model that fails.

    Args:
        model: The model.
        shape: Height and width of the image.
        mode: ``'tensor'`` or ``'predict'``.
    """

    def __init__(self, model: nn.Module, shape: tuple[int, int], mode: str) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).eval()
        self.mode = mode
        shapes = dict.fromkeys(('img_shape', 'ori_shape', 'pad_shape', 'batch_input_shape'), shape)
        self.sample = BaseDataElement(metainfo={**shapes, 'scale_factor': (1.0, 1.0)})
        self.unused = ()

    def forward(self, image: Tensor) -> object:
        """What the model makes of an image ``(1, 3, h, w)``, and what else is to be traced."""
        samples = [self.sample.clone() if self.mode == 'predict' else self.sample]
        results = self.model(image, samples, mode=self.mode)
        if self.mode == 'predict':
            results = [_tensors(result) for result in results]
        return results, self.unused


def _tensors(result: BaseDataElement) -> list[Tensor]:
    """All tensors in a prediction."""
    found = []
    for value in result.values():
        found += _tensors(value) if isinstance(value, BaseDataElement) else [value]
    return [value for value in found if isinstance(value, Tensor)]


@dataclass
class Exported:
    """A model as an exported file has it.

    Args:
        module: Called with the inputs ``(N, channels, h, w)``, float32, as they are read, from 0 to
            255 (pictures in BGR).
        inputs: Their channels, by name.
        output: The name of its result.
        trace: Gives what is to be traced in the module's place. Default: the module.
        note: What whoever uses the file should know. Default: none.
        multiple: What height and width must be multiples of. Default: 1.
        values: The values of inputs, by name, that have not all from 0 to 255. Default: none.
    """

    module: nn.Module
    inputs: Mapping[str, int]
    output: str
    trace: Callable[[], nn.Module] | None = None
    note: str = ''
    multiple: int = 1
    values: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def fitting(self, size: tuple[int, int]) -> tuple[int, int]:
        """A size ``(h, w)`` that the model can take: this one, or the next one larger."""
        return tuple(-(-n // self.multiple) * self.multiple for n in size)

    def random_inputs(self, size: tuple[int, int], seed: int = 0) -> dict[str, np.ndarray]:
        """Inputs ``(1, channels, h, w)`` by name, float32, of any values that they may have."""
        random = np.random.default_rng(seed)
        return {
            name: random.choice(self.values.get(name, range(256)), (1, channels, *size)).astype(
                np.float32
            )
            for name, channels in self.inputs.items()
        }
