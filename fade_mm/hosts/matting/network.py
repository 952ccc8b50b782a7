"""A2U Matting's network with a ResNet-34 (Dai et al., CVPR 2021), as FADE's authors changed it.

Encoder, context and decoder are those of dongdong93/a2u_matting; downsampling is plain 2x2 max
pooling, and upsamplers come by config (poppinace/fade, ``a2u_matting/``). The names are the
authors'. Their in-place batch norm is here a batch norm and a LeakyReLU, two modules: it scales
by ``|weight| + 1e-5``, which a converted checkpoint holds (`fade_mm.papers.a2u_matting`).
"""

from collections import OrderedDict
from math import sqrt

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from fade_mm.errors import SetupError
from fade_mm.hosts.base import start_upsamplers
from fade_mm.upsamplers import build_upsampler

from .pretrained import load_encoder

SLOPE = 0.01  # of all LeakyReLUs
STRIDE = 16  # of the coarsest feature, which height and width of an image must be multiples of


class A2UNet(BaseModule):
    """The network: from a picture and its trimap to alpha.

    Height and width must be multiples of 16. In training, the context normalises one value per
    image and channel, so that there must be at least two images.

    Args:
        upsample_cfg: Config of the four upsamplers; see `build_upsampler`. They are guided by the
            encoder feature that max pooling reads, and another feature is added to what they make:
            FADE's gate is on.
        base_channels: Channels C of the stem, even: the encoder has C, C, 2C, 4C, the decoder 2C,
            C, C, C/2. Default: 64.
        dilations: Of the context's four branches. Default: ``(1, 6, 12, 18)``.
        dropout: Share of the context's values that training drops. Default: 0.5.
        start_upsamplers_alike: Start the upsamplers' convolutions as all others, which the
            released code does; else each upsampler has its own start. Default: False.
        pretrained: File or URL of an ImageNet ResNet-34 that the encoder starts from: torchvision's
            (``torchvision://resnet34``), or that of mapillary/inplace_abn, which the authors took.
            Default: ``None``.
        start_head_positive: Turn the signs of the last convolution's weights where their sum is
            negative at the start. It is all that alpha passes through, so with a negative sum,
            alpha falls where it should rise, and a short training may learn nothing (two of four
            did not, docs/results.md). Ours, not the authors'.
            Default: False.
        init_cfg: Default: Xavier normal for LeakyReLU, and (1, 0) for norms, as the authors.

    Raises:
        ValueError: ``base_channels`` is odd or not positive.
    """

    def __init__(
        self,
        upsample_cfg: dict,
        base_channels: int = 64,
        dilations: tuple[int, ...] = (1, 6, 12, 18),
        dropout: float = 0.5,
        start_upsamplers_alike: bool = False,
        pretrained: str | None = None,
        start_head_positive: bool = False,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        if base_channels < 2 or base_channels % 2:
            raise ValueError(f'base_channels must be even and positive, got {base_channels}')
        super().__init__(
            init_cfg
            or [
                # The gain of LeakyReLU, as in nn.init.calculate_gain.
                dict(
                    type='Xavier',
                    layer='Conv2d',
                    distribution='normal',
                    gain=sqrt(2 / (1 + SLOPE**2)),
                ),
                dict(type='Constant', layer='_BatchNorm', val=1.0),
            ]
        )
        self.start_upsamplers_alike = start_upsamplers_alike
        self.pretrained = pretrained
        self.start_head_positive = start_head_positive
        c = base_channels
        self.pool = nn.MaxPool2d(2, 2)
        self.layer0 = conv_norm_act(4, c, 7)
        self.layer1 = residuals(c, 3)
        self.layer2_1 = Downsampling(c, 2 * c)
        self.layer2_2 = residuals(2 * c, 3)
        self.layer3_1 = Downsampling(2 * c, 4 * c)
        self.layer3_2 = residuals(4 * c, 3)
        self.dconv_pp = Context(4 * c, dilations, dropout)
        self.short3 = conv_norm_act(2 * c, 4 * c)
        self.short2 = conv_norm_act(c, 2 * c)
        self.short1 = conv_norm_act(c, c)
        self.short0 = conv_norm_act(4, c)
        self.decoder_layer4 = Decoding(4 * c, 2 * c, upsample_cfg)
        self.decoder_layer3 = Decoding(2 * c, c, upsample_cfg)
        self.decoder_layer2 = Decoding(c, c, upsample_cfg)
        self.decoder_layer1 = Decoding(c, c // 2, upsample_cfg)
        self.pred = nn.Sequential(conv_norm_act(c // 2, 1), conv(1, 1))

    def init_weights(self) -> None:
        """Start all convolutions and norms, then the upsamplers, then load the encoder."""
        super().init_weights()
        if not self.start_upsamplers_alike:
            start_upsamplers(self)
        weight = self.pred[1].weight
        if self.start_head_positive and weight.sum() < 0:
            weight.data.neg_()
        if self.pretrained:
            load_encoder(self, self.pretrained)

    def forward(self, x: Tensor) -> Tensor:
        """Alpha ``(N, 1, h, w)``, not limited to [0, 1].

        Args:
            x: Normalised picture and trimap, ``(N, 4, h, w)``.

        Raises:
            ValueError: the size is no multiple of 16.
            SetupError: it trains with one image.
        """
        check_input(x, self.training and isinstance(self.dconv_pp.norm, nn.BatchNorm2d))
        l0 = self.layer0(x)
        l0p = self.pool(l0)
        l1 = self.layer1(self.pool(l0p))
        l10, y = self.layer2_1(l1)
        l2 = self.layer2_2(y)
        l20, y = self.layer3_1(l2)
        y = self.dconv_pp(self.layer3_2(y))
        y = self.decoder_layer4(l20, y, self.short3(l2))
        y = self.decoder_layer3(l10, y, self.short2(l1))
        y = self.decoder_layer2(l0p, y, self.short1(l0p))
        y = self.decoder_layer1(l0, y, self.short0(x))
        return self.pred(y)


def check_input(x: Tensor, needs_two: bool) -> None:
    """Raise where the network cannot take an input."""
    h, w = x.shape[2:]
    if torch.compiler.is_compiling():
        return
    if h % STRIDE or w % STRIDE:
        raise ValueError(f'height and width must be multiples of {STRIDE}, got {h} x {w}')
    if needs_two and len(x) == 1:
        raise SetupError(
            'A2U Matting normalises one value per image in its global context, so that training '
            'needs at least two images in each batch, got 1; raise train_dataloader.batch_size '
            '(or set drop_last=True, if the last batch has one)'
        )


def conv(c_in: int, c_out: int, kernel_size: int = 3, **kwargs) -> nn.Conv2d:
    """A convolution without bias that keeps the size."""
    padding = kwargs.get('dilation', 1) * (kernel_size // 2)
    return nn.Conv2d(c_in, c_out, kernel_size, padding=padding, bias=False, **kwargs)


def act() -> nn.LeakyReLU:
    """The activation."""
    return nn.LeakyReLU(SLOPE, inplace=True)


def conv_norm_act(c_in: int, c_out: int, kernel_size: int = 3, **kwargs) -> nn.Sequential:
    """Convolution, norm, activation."""
    return nn.Sequential(conv(c_in, c_out, kernel_size, **kwargs), nn.BatchNorm2d(c_out), act())


def residuals(channels: int, count: int) -> nn.Sequential:
    """Some residual blocks, one after the other."""
    blocks = ((f'block{i}', Residual(channels)) for i in range(1, count + 1))
    return nn.Sequential(OrderedDict(blocks))


def branch(c_in: int, c_out: int) -> nn.Sequential:
    """What a residual block adds to its input."""
    return nn.Sequential(
        OrderedDict(
            conv1=conv(c_in, c_out),
            bn1=nn.BatchNorm2d(c_out),
            act=act(),
            conv2=conv(c_out, c_out),
            bn2=nn.BatchNorm2d(c_out),
        )
    )


class Residual(nn.Module):
    """A residual block of the encoder.

    Args:
        channels: Of input and output.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convs = branch(channels, channels)
        self.act = act()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.convs(x) + x)


class Downsampling(nn.Module):
    """A residual block with max pooling between its convolutions.

    Args:
        c_in: Channels of its input.
        c_out: Channels of its output, at half the size.
    """

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        layers = OrderedDict(conv1=conv(c_in, c_out), bn1=nn.BatchNorm2d(c_out), act=act())
        self.layer1 = nn.Sequential(layers)
        self.pool = nn.MaxPool2d(2, 2)
        layers = OrderedDict(conv2=conv(c_out, c_out), bn2=nn.BatchNorm2d(c_out))
        self.layer2 = nn.Sequential(layers)
        self.proj_conv = conv(c_in, c_out, 1, stride=2)
        self.proj_bn = nn.BatchNorm2d(c_out)
        self.act = act()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The feature before pooling, and the output."""
        fine = self.layer1(x)
        y = self.layer2(self.pool(fine))
        return fine, self.act(y + self.proj_bn(self.proj_conv(x)))


class Context(nn.Module):
    """Atrous spatial pyramid pooling with depthwise convolutions, which the authors' code is named
    after.

    Args:
        channels: Of input and output.
        dilations: Of its branches; the first one is a 1x1 convolution.
        dropout: Share of the values that training drops.
    """

    def __init__(self, channels: int, dilations: tuple[int, ...], dropout: float) -> None:
        super().__init__()
        for i, dilation in enumerate(dilations, 1):
            setattr(self, f'aspp{i}', Atrous(channels, dilation))
        self.branches = len(dilations)
        pooled = conv_norm_act(channels, channels, 1)
        self.global_avg_pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), *pooled)
        self.bottleneck_conv = conv_norm_act(channels * (self.branches + 1), channels, 1)
        self.dropout = nn.Dropout(dropout)

    @property
    def norm(self) -> nn.Module:
        """What normalises one value per image."""
        return self.global_avg_pool[2]

    def forward(self, x: Tensor) -> Tensor:
        features = [getattr(self, f'aspp{i}')(x) for i in range(1, self.branches + 1)]
        features.append(self.global_avg_pool(x).expand(-1, -1, *x.shape[2:]))
        return self.dropout(self.bottleneck_conv(torch.cat(features, 1)))


class Atrous(nn.Module):
    """A branch of the context.

    Args:
        channels: Of input and output.
        dilation: 1 for a 1x1 convolution, else that of a depthwise one.
    """

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        if dilation == 1:
            self.atrous_conv = conv_norm_act(channels, channels, 1)
        else:
            # By name: the authors' indices leave no place for the activation.
            first = conv_norm_act(channels, channels, dilation=dilation, groups=channels)
            second = conv_norm_act(channels, channels, 1)
            names = ('0', '1', 'act', '2', '3', '4')
            layers = OrderedDict(zip(names, [*first, *second], strict=True))
            self.atrous_conv = nn.Sequential(layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.atrous_conv(x)


class Decoding(nn.Module):
    """A stage of the decoder.

    Args:
        c_in: Channels of the coarse feature, of its guide and of what is added.
        c_out: Channels of the output.
        upsample_cfg: Config of the upsampler.
    """

    def __init__(self, c_in: int, c_out: int, upsample_cfg: dict) -> None:
        super().__init__()
        self.up = build_upsampler(upsample_cfg, c_in, c_in)
        self.dconv = ProjectedResidual(c_in, c_out)
        self.dconv1 = ProjectedResidual(c_out, c_out)

    def forward(self, en: Tensor, x: Tensor, short: Tensor) -> Tensor:
        """The output, at the size of ``en``.

        Args:
            en: The encoder feature that guides, ``(N, c_in, h, w)``.
            x: The coarse feature, ``(N, c_in, h / 2, w / 2)``.
            short: What is added, ``(N, c_in, h, w)``.
        """
        return self.dconv1(self.dconv(self.up(en, x) + short))


class ProjectedResidual(nn.Module):
    """A residual block of the decoder.

    Args:
        c_in: Channels of its input.
        c_out: Channels of its output.
    """

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.dep_sep_conv = branch(c_in, c_out)
        self.proj_conv = self.proj_bn = None
        if c_in != c_out:
            self.proj_conv = conv(c_in, c_out, 1)
            self.proj_bn = nn.BatchNorm2d(c_out)
        self.act = act()

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.proj_conv is None else self.proj_bn(self.proj_conv(x))
        return self.act(self.dep_sep_conv(x) + shortcut)
