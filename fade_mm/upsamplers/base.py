"""What every upsampler is: a layer that turns ``(en, de)`` into a feature of the size of ``en``."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.fx import Proxy
from torch.nn.utils import parametrize

from fade_mm.ops.checks import check_dtypes, check_feature, check_pair, check_positive, is_tracing
from fade_mm.ops.fx import leaf
from fade_mm.ops.geometry import fit_size, step_of

from .by_group import grouped


class View(NamedTuple):
    """Something to look at in an upsampler.

    Attributes:
        name: What it is: ``'kernels'``, ``'gate'``, ``'index'`` or ``'offsets'``.
        tensor: ``(N, channels, height, width)``.
        meaning: What the channels and values are, in one sentence.
        in_window: Of kernels: whether they weigh the points of a window around the cell, row by
            row, and not points that a layer chose. Default: True.

    Example:
        >>> import torch
        >>> from fade_mm.upsamplers import FADE
        >>> views = FADE(8).views(torch.rand(1, 8, 7, 9), torch.rand(1, 8, 4, 5))
        >>> [(view.name, tuple(view.tensor.shape)) for view in views]
        [('kernels', (1, 25, 7, 9)), ('gate', (1, 1, 4, 5))]
    """

    name: str
    tensor: Tensor
    meaning: str
    in_window: bool = True


class Upsampler(nn.Module):
    """An upsampler under the guidance of the encoder feature, called as ``up(en, de)``.

    A subclass defines `upsample` and sets the attributes; arguments of its constructor that it
    keeps under their names are shown when it is printed.

    Attributes:
        in_channels_en: Channels that ``en`` must have. Default: ``None``, any number.
        in_channels_de: Channels that ``de`` must have. Default: ``None``, any number.
        scale_factor: Ratio of the two resolutions. Default: 2.
        skip: What its host does with the encoder feature, as `build_upsampler` was told; a host
            that does anything with it calls `pair`. Default: ``None``.

    Example:
        >>> import torch
        >>> from fade_mm.upsamplers import Upsampler
        >>> class Zero(Upsampler):
        ...     def upsample(self, en, de):
        ...         return en.new_zeros(*de.shape[:2], *en.shape[2:])
        >>> Zero()(torch.rand(1, 8, 7, 9), torch.rand(1, 4, 4, 5)).shape
        torch.Size([1, 4, 7, 9])
    """

    in_channels_en: int | None = None
    in_channels_de: int | None = None
    scale_factor: int = 2
    skip: str | None = None
    _weighed = ('en', 'de')  # what meets the layer's weights, and so must have their dtype

    def upsample(self, en: Tensor, de: Tensor) -> Tensor:
        """What the subclass computes, with tensors that are checked already; see `forward`."""
        raise NotImplementedError(f'{type(self).__name__} must define upsample(en, de)')

    def forward(self, en: Tensor, de: Tensor) -> Tensor:
        """Upsample ``de`` to the size of ``en``.

        Args:
            en: Encoder feature ``(N, in_channels_en, h, w)``.
            de: Decoder feature ``(N, in_channels_de, H, W)``, ``H`` being ``h / scale_factor``
                rounded up or down, and ``W`` likewise; or ``H == h`` and ``W == w``.

        Returns:
            The upsampled feature ``(N, in_channels_de, h, w)`` in the dtype of ``de``.

        Raises:
            TypeError, ValueError: the tensors do not fit the layer or each other.
        """
        self._check(en=en, de=de)
        return self.upsample(en, de)

    def pair(self, en: Tensor, de: Tensor) -> tuple[Tensor, Tensor]:
        """What a host with a skip connection merges: the encoder feature and the upsampled one.

        An upsampler that changes the encoder feature as well overrides this, and calls itself in
        it, so that hooks see the call.

        Args:
            en, de: As in `forward`.

        Returns:
            ``en`` and ``up(en, de)``.
        """
        return en, self(en, de)

    def views(self, en: Tensor, de: Tensor) -> list[View]:
        """What there is to look at; nothing unless the subclass says so.

        Args:
            en, de: As in `forward`.
        """
        return []

    def init_weights(self) -> None:
        """Start anew, everything that the layer holds: each part's own start, or PyTorch's."""
        if hasattr(self, 'reset_parameters'):
            reset(self)
        for part in self.children():
            restart(part)

    def extra_repr(self) -> str:
        """The constructor's arguments that are not their defaults."""
        shown = []
        for name, parameter in inspect.signature(type(self)).parameters.items():
            value = getattr(self, name, parameter.default)
            if value != parameter.default:
                shown.append(f'{name}={value!r}')
        return ', '.join(shown)

    def _check(self, **features: Tensor) -> None:
        if any(isinstance(x, Proxy) for x in features.values()):
            return  # torch.fx has no tensors yet
        for name, x in features.items():
            check_feature(name, x, getattr(self, f'in_channels_{name}'))
        if len(features) == 2:
            check_pair('en', features['en'], features['de'], self.scale_factor)
        weighed = {name: x for name, x in features.items() if name in self._weighed}
        if weighed:
            check_dtypes(self, **weighed)

    def __prepare_scriptable__(self) -> nn.Module:
        raise TypeError(
            f'{type(self).__name__} cannot be scripted; use torch.export.export or torch.compile '
            'instead of torch.jit.script'
        )


class DecoderUpsampler(Upsampler):
    """An upsampler that reads the decoder feature alone, called as ``up(de)`` or ``up(en, de)``.

    A subclass defines `enlarge`. Given ``en``, what hangs over its size is cropped; where it falls
    short, at sizes rounded down, the last row or column is repeated; and a feature that has the
    size of ``en`` already is passed on, or refused by a layer with another number of channels in
    its output.

    `torch.fx.symbolic_trace` of the layer alone takes it for one that is called with both; for
    ``up(de)``, give it ``concrete_args={'de': None}``. Within a model it sees what is called.

    Example:
        >>> import torch
        >>> from fade_mm.upsamplers import DecoderUpsampler
        >>> class Repeat(DecoderUpsampler):
        ...     def enlarge(self, de):
        ...         return de.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
        >>> Repeat()(torch.rand(1, 8, 7, 9), torch.rand(1, 8, 4, 5)).shape
        torch.Size([1, 8, 7, 9])
    """

    _weighed = ('de',)
    _changes_channels = False  # whether the output has others than de

    def enlarge(self, de: Tensor) -> Tensor:
        """``de`` ``(N, C, H, W)``, checked already, at ``(scale_factor * H, scale_factor * W)``."""
        raise NotImplementedError(f'{type(self).__name__} must define enlarge(de)')

    def forward(self, en: Tensor, de: Tensor | None = None) -> Tensor:
        """Upsample ``de`` by the scale factor, or to the size of ``en``.

        Args:
            en: Encoder feature ``(N, any, h, w)``, of which the size alone counts, or, if it is the
                only argument, the decoder feature.
            de: Decoder feature ``(N, in_channels_de, H, W)``; see `Upsampler.forward`.

        Returns:
            The upsampled feature in the dtype of ``de``: ``(N, in_channels_de, h, w)``, or without
            an encoder feature ``(N, in_channels_de, scale_factor * H, scale_factor * W)``.

        Raises:
            TypeError, ValueError: the tensors do not fit the layer or each other; ``de`` has the
                size of ``en`` already, but the output would have other channels (an ONNX file
                and a graph of `torch.jit.trace` cannot say so, and crop).
        """
        if de is None:
            self._check(de=en)
            return self.enlarge(en)
        self._check(en=en, de=de)
        size = en.shape[2:]
        if self._changes_channels:
            return fit_or_refuse(self.enlarge(de), de, size, self.scale_factor)
        if not isinstance(de, Proxy):
            step = step_of(size, de.shape[2:], self.scale_factor)
            if isinstance(step, int) and step == 1:  # else a graph for all sizes is recorded
                return de
        return fit_or_pass(self.enlarge(de), de, size, self.scale_factor)

    def views(self, en: Tensor, de: Tensor | None = None) -> list[View]:
        """What there is to look at, at the size of the output.

        Args:
            en, de: As in `forward`.
        """
        if de is None:
            return self._views(en)
        size = en.shape[2:]
        if step_of(size, de.shape[2:], self.scale_factor) == 1:
            return []
        return [view._replace(tensor=fit_size(view.tensor, size)) for view in self._views(de)]

    def _views(self, de: Tensor) -> list[View]:
        """The views of `enlarge`."""
        return []


class AsUpsampler(DecoderUpsampler):
    """Makes an upsampler of any layer that takes the decoder feature alone.

    Weights load under the layer's own names, too.

    Args:
        layer: Upsamples ``(N, C, H, W)`` by ``scale_factor``, called as ``layer(de)``.
        scale_factor: The layer's ratio. Default: 2.

    Raises:
        TypeError, ValueError: ``scale_factor`` is no positive integer; when called, the layer's
            output has another size than it says.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from fade_mm.upsamplers import AsUpsampler
        >>> up = AsUpsampler(nn.Upsample(scale_factor=2, mode='bicubic'))
        >>> up(torch.rand(1, 8, 7, 9), torch.rand(1, 4, 4, 5)).shape
        torch.Size([1, 4, 7, 9])
    """

    _weighed = ()

    def __init__(self, layer: nn.Module, scale_factor: int = 2) -> None:
        super().__init__()
        check_positive(scale_factor=scale_factor)
        self.layer = layer
        self.scale_factor = scale_factor
        in_channels = getattr(layer, 'in_channels', None)
        self._changes_channels = getattr(layer, 'out_channels', in_channels) != in_channels
        self._register_load_state_dict_pre_hook(_into_layer, with_module=True)

    def init_weights(self) -> None:
        """The layer's own start, or if it says none, that of its parts."""
        restart(self.layer)

    def enlarge(self, de: Tensor) -> Tensor:
        """What the layer makes of ``de``."""
        out = self.layer(de)
        if isinstance(out, Proxy) or is_tracing():
            return out
        if any(
            abs(a - self.scale_factor * b) >= self.scale_factor
            for a, b in zip(out.shape[2:], de.shape[2:], strict=True)
        ):
            raise ValueError(
                f'{type(self.layer).__name__} was to upsample {tuple(de.shape)} by '
                f'{self.scale_factor}, got {tuple(out.shape)}; change its kernel size, stride or '
                'padding'
            )
        return out

    def _views(self, de: Tensor) -> list[View]:
        return self.layer.views(de) if isinstance(self.layer, DecoderUpsampler) else []

    def extra_repr(self) -> str:
        """The ratio; the layer prints itself."""
        return f'scale_factor={self.scale_factor}'


def named_upsamplers(module: nn.Module, prefix: str = '') -> Iterator[tuple[str, Upsampler]]:
    """The upsamplers of a model, without those that are parts of others.

    Args:
        module: Any model, or an upsampler.
        prefix: Name of the module, before the names of its parts. Default: none.

    Yields:
        Names, as `nn.Module.named_modules` gives them, and upsamplers.

    Example:
        >>> from torch import nn
        >>> from fade_mm.upsamplers import FADE, named_upsamplers
        >>> [name for name, up in named_upsamplers(nn.Sequential(nn.ReLU(), FADE(8)))]
        ['1']
    """
    inside = ()
    for name, child in module.named_modules(prefix=prefix):
        if not name.startswith(inside) and isinstance(child, Upsampler):
            yield name, child
            if name == prefix:
                return
            inside += (f'{name}.',)


def as_skip(skip: str | None, skip_is_added: bool | None) -> str | None:
    """What a host does with the encoder feature, given either spelling.

    Raises:
        ValueError: there is no such thing, or the two contradict each other.
    """
    if skip not in (None, 'added', 'concatenated'):
        raise ValueError(f"skip must be 'added', 'concatenated' or None, got {skip!r}")
    if skip is not None and skip_is_added not in (None, skip == 'added'):
        raise ValueError(
            f'skip={skip!r} and skip_is_added={skip_is_added} contradict each other; leave '
            'skip_is_added out'
        )
    return 'added' if skip_is_added else skip


def restart(module: nn.Module) -> None:
    """Start a module anew: as its ``init_weights`` does, or else as PyTorch and its parts do."""
    if hasattr(module, 'init_weights'):
        module.init_weights()
        return
    if hasattr(module, 'reset_parameters'):
        reset(module)
    for part in module.children():
        restart(part)


def reset(module: nn.Module) -> None:
    """PyTorch's own start of a module, parametrised or not."""
    with _filled(module):
        module.reset_parameters()


def start(module: nn.Module, weights: Callable[[Tensor], object]) -> None:
    """Start a module's convolutions and linear layers, wrapped ones too, with zero biases.

    Parametrised ones (`torch.nn.utils.parametrizations`) start with the same weights.

    Args:
        module: The module, or a layer itself.
        weights: Fills a weight, as the functions of `nn.init` do.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            with _filled(layer):
                weights(layer.weight)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)


@contextmanager
def _filled(module: nn.Module) -> Iterator[None]:
    """Within, a module's tensors can be filled in place even where it computes them."""
    with parametrize.cached():
        yield
        for name in getattr(module, 'parametrizations', ()):
            setattr(module, name, getattr(module, name).detach())


def kernels_view(logits: Tensor, up_group: int = 1) -> View:
    """The kernels that the operator makes of logits, in its precision.

    Args:
        logits: ``(N, up_group * K*K, h, w)``.
        up_group: Groups of channels with kernels of their own; they lie along the batch of the
            view, those of an image in turn. Default: 1.
    """
    logits = grouped(logits, up_group)
    more = '; groups of channels lie along the batch' if up_group > 1 else ''
    kernels = logits.softmax(1, dtype=torch.promote_types(logits.dtype, torch.float32))
    return View('kernels', kernels, f'weights of the K x K points of de{more}')


@leaf
def fit_or_pass(out: Tensor, de: Tensor, size: tuple[int, int], scale_factor: int) -> Tensor:
    """``out``, made of ``de``, at a size; ``de`` itself where it has that size already."""
    step = step_of(size, de.shape[2:], scale_factor)
    if isinstance(step, int):
        return de if step == 1 else fit_size(out, size)
    # A graph for all sizes decides when it runs, by index: exported, that costs the least.
    is_one = torch.ones((), dtype=torch.int64, device=de.device) == step
    both = torch.cat([out.flatten(2), de.flatten(2).to(out.dtype)], 2)
    fitted, passed = (_index(size, x) for x in (out, de))
    index = torch.where(is_one, passed + out.shape[2] * out.shape[3], fitted)
    return both.index_select(2, index.flatten()).reshape(*out.shape[:2], *size)


@leaf
def fit_or_refuse(out: Tensor, de: Tensor, size: tuple[int, int], scale_factor: int) -> Tensor:
    """``out``, made of ``de``, at a size.

    Raises:
        ValueError: ``de`` has that size already.
    """
    step = step_of(size, de.shape[2:], scale_factor)
    if isinstance(step, int) and step == 1:
        raise ValueError(
            f'en and de have the same size {tuple(de.shape[2:])}, so de would be passed on, but '
            'the layer changes its channels; make out_channels those of de'
        )
    if isinstance(step, torch.SymInt):
        torch._check(step != 1)  # the exported program refuses
    return fit_size(out, size)


def _index(size: tuple[int, int], x: Tensor) -> Tensor:
    """Where the points of ``x`` lie in memory, the last ones repeated, ``size``."""
    rows, cols = (
        torch.arange(a, device=x.device).clamp(max=b - 1)
        for a, b in zip(size, x.shape[2:], strict=True)
    )
    return rows[:, None] * x.shape[3] + cols


def _into_layer(module: nn.Module, state_dict: dict, prefix: str, *_) -> None:
    """Give the parameters of a layer that was not wrapped the wrapped names, in place."""
    for name in module.layer.state_dict():
        if prefix + name in state_dict:
            state_dict[f'{prefix}layer.{name}'] = state_dict.pop(prefix + name)
