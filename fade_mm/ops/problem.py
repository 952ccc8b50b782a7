"""One call of the operator: its operands, checked once, and what follows from them."""

from collections.abc import Iterator
from dataclasses import InitVar, dataclass

import torch
from torch import Tensor

from .checks import check_feature, check_pair, check_positive, differ, kernel_size_of

Gradients = list[Tensor | None]


@dataclass(slots=True)
class Problem:
    """The operands of `ops.gated_reassemble`, which says what they are; sizes may be symbolic.

    Of symbolic sizes, only what is known to be wrong is refused.

    Args:
        de: Decoder feature ``(N, C, H, W)``.
        logits: ``(N, K*K, h, w)``; kernels where there is no softmax.
        logits_de: ``(N, K*K, H, W)``, or none.
        gate: ``(N, 1, H, W)``, or none; together with ``en``.
        en: Encoder feature ``(N, C, h, w)``, or none.
        scale_factor: Ratio of the two resolutions.
        softmax: Whether kernels are the softmax of logits.
        checked: Whether they are known to fit each other. Default: False.

    Raises:
        TypeError, ValueError: they do not fit each other.
    """

    de: Tensor
    logits: Tensor
    logits_de: Tensor | None
    gate: Tensor | None
    en: Tensor | None
    scale_factor: int
    softmax: bool
    checked: InitVar[bool] = False

    def __post_init__(self, checked: bool) -> None:
        if checked:
            return
        name = 'logits' if self.softmax else 'kernels'
        check_positive(scale_factor=self.scale_factor)
        check_feature('de', self.de)
        check_feature(name, self.logits)
        if isinstance(self.logits.shape[1], int):
            kernel_size_of(name, self.logits)
        check_pair(name, self.logits, self.de, self.scale_factor)
        n, c, *low = self.de.shape
        taps, *size = self.logits.shape[1:]
        self._check('logits_de', self.logits_de, (n, taps, *low))
        if (self.gate is None) != (self.en is None):
            given, missing = ('en', 'gate') if self.gate is None else ('gate', 'en')
            raise ValueError(f'gate and en go together, got {given} without {missing}')
        self._check('gate', self.gate, (n, 1, *low))
        self._check('en', self.en, (n, c, *size))

    @property
    def tensors(self) -> tuple[Tensor | None, ...]:
        """The five tensors, in the order of the arguments; None where one is not given."""
        return self.de, self.logits, self.logits_de, self.gate, self.en

    @property
    def given(self) -> Iterator[Tensor]:
        """Those that are given."""
        return (x for x in self.tensors if x is not None)

    @property
    def size(self) -> torch.Size:
        """Height and width of the output."""
        return self.logits.shape[2:]

    @property
    def low(self) -> torch.Size:
        """Height and width of ``de``."""
        return self.de.shape[2:]

    @property
    def step(self) -> int:
        """How many output points of an axis read around one of ``de``'s: 1 at the same size."""
        return 1 if self.size == self.low else self.scale_factor

    @property
    def kernel_size(self) -> int:
        """The upsampling kernel size K."""
        return kernel_size_of('logits', self.logits)

    @property
    def accumulated(self) -> torch.dtype:
        """What sums are made in: float32, or float64 for such features."""
        return torch.promote_types(self.de.dtype, torch.float32)

    @property
    def memory_format(self) -> torch.memory_format:
        """That of ``de``, and of the output: channels-last only where that is unambiguous."""
        de = self.de
        if de.is_contiguous() or not de.is_contiguous(memory_format=torch.channels_last):
            return torch.contiguous_format
        return torch.channels_last

    def empty_output(self, dtype: torch.dtype | None = None) -> Tensor:
        """Room for the output; by default in the dtype of ``de``."""
        return torch.empty(
            (*self.de.shape[:2], *self.size),
            dtype=dtype or self.de.dtype,
            device=self.de.device,
            memory_format=self.memory_format,
        )

    def empty_gradients(self, needed: list[bool]) -> Gradients:
        """Room for the gradients that are needed, in the order of the arguments."""
        pairs = zip(self.tensors, needed, strict=True)
        return [torch.empty_like(x) if asked else None for x, asked in pairs]

    def check_gradient(self, grad: Tensor) -> None:
        """Raise unless ``grad`` is one of the output's.

        Raises:
            TypeError, ValueError: its dtype, shape or device is wrong.
        """
        self._check('grad', grad, (*self.de.shape[:2], *self.size))

    def _check(self, name: str, x: Tensor | None, shape: tuple[int, ...]) -> None:
        if x is None:
            return
        check_feature(name, x)
        if x.device != self.de.device:
            raise ValueError(
                f'{name} and de must be on the same device, got {x.device}, {self.de.device}'
            )
        if differ(x.shape, shape):
            raise ValueError(f'{name} must have shape {tuple(shape)}, got {tuple(x.shape)}')
