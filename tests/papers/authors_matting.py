"""The structure behind the authors' matting checkpoints: A2U Matting with a ResNet-34.

Written down from its description, under the names that its checkpoints have, with in-place batch
norms; upsamplers are ours. Sizes are multiples of 16.
"""

import torch
import torch.nn.functional as F
from torch import nn

from fade_mm.upsamplers import build_upsampler


class ABN(nn.Module):
    """An in-place batch norm: it scales by the weight's magnitude and eps."""

    def __init__(self, channels, activation='leaky_relu'):
        super().__init__()
        self.activation = activation
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer('running_mean', torch.zeros(channels))
        self.register_buffer('running_var', torch.ones(channels))
        self.register_buffer('num_batches_tracked', torch.tensor(0))

    def forward(self, x):
        mean, var, weight, bias = (
            t[:, None, None] for t in (self.running_mean, self.running_var, self.weight, self.bias)
        )
        x = (x - mean) / torch.sqrt(var + 1e-5) * (weight.abs() + 1e-5) + bias
        return torch.where(x < 0, 0.01 * x, x) if self.activation == 'leaky_relu' else x


def leaky(x):
    return torch.where(x < 0, 0.01 * x, x)


def conv(c_in, c_out, kernel=3, **kwargs):
    padding = kwargs.pop('padding', kernel // 2)
    return nn.Conv2d(c_in, c_out, kernel, padding=padding, bias=False, **kwargs)


class Convs(nn.Module):
    """conv1, bn1, conv2, bn2."""

    def __init__(self, c_in, c_out):
        super().__init__()
        self.conv1, self.bn1 = conv(c_in, c_out), ABN(c_out)
        self.conv2, self.bn2 = conv(c_out, c_out), ABN(c_out, 'identity')

    def forward(self, x):
        return self.bn2(self.conv2(self.bn1(self.conv1(x))))


class EncoderBlock(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.convs = Convs(channels, channels)

    def forward(self, x):
        return leaky(x + self.convs(x))


class Blocks(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.block1, self.block2, self.block3 = (EncoderBlock(channels) for _ in range(3))

    def forward(self, x):
        return self.block3(self.block2(self.block1(x)))


class First(nn.Module):
    def __init__(self, c_in, c_out):
        super().__init__()
        self.conv1, self.bn1 = conv(c_in, c_out), ABN(c_out)


class Second(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv2, self.bn2 = conv(channels, channels), ABN(channels, 'identity')


class DownBlock(nn.Module):
    def __init__(self, c_in, c_out):
        super().__init__()
        self.layer1, self.layer2 = First(c_in, c_out), Second(c_out)
        self.proj_conv, self.proj_bn = conv(c_in, c_out, 1, stride=2), ABN(c_out, 'identity')

    def forward(self, x):
        fine = self.layer1.bn1(self.layer1.conv1(x))
        y = self.layer2.bn2(self.layer2.conv2(F.max_pool2d(fine, 2)))
        return fine, leaky(self.proj_bn(self.proj_conv(x)) + y)


class Branch(nn.Module):
    def __init__(self, channels, dilation):
        super().__init__()
        if dilation == 1:
            self.atrous_conv = nn.Sequential(conv(channels, channels, 1), ABN(channels))
        else:
            spread = dict(padding=dilation, dilation=dilation, groups=channels)
            self.atrous_conv = nn.Sequential(
                conv(channels, channels, 3, **spread),
                ABN(channels),
                conv(channels, channels, 1),
                ABN(channels),
            )

    def forward(self, x):
        return self.atrous_conv(x)


class Context(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.aspp1, self.aspp2, self.aspp3, self.aspp4 = (
            Branch(channels, dilation) for dilation in (1, 6, 12, 18)
        )
        self.global_avg_pool = nn.Sequential(
            nn.AdaptiveAvgPool2d((1, 1)), conv(channels, channels, 1), ABN(channels)
        )
        self.bottleneck_conv = nn.Sequential(conv(5 * channels, channels, 1), ABN(channels))

    def forward(self, x):
        pooled = F.interpolate(self.global_avg_pool(x), size=x.shape[2:], mode='nearest')
        parts = [self.aspp1(x), self.aspp2(x), self.aspp3(x), self.aspp4(x), pooled]
        return self.bottleneck_conv(torch.cat(parts, dim=1))


class DecoderBlock(nn.Module):
    def __init__(self, c_in, c_out):
        super().__init__()
        self.dep_sep_conv = Convs(c_in, c_out)
        if c_in != c_out:
            self.proj_conv, self.proj_bn = conv(c_in, c_out, 1), ABN(c_out, 'identity')

    def forward(self, x):
        shortcut = self.proj_bn(self.proj_conv(x)) if hasattr(self, 'proj_conv') else x
        return leaky(self.dep_sep_conv(x) + shortcut)


class Stage(nn.Module):
    def __init__(self, c_in, c_out, upsampler):
        super().__init__()
        self.bilinear = upsampler is None
        if not self.bilinear:
            self.up = build_upsampler(upsampler, c_in, c_in)
        self.dconv, self.dconv1 = DecoderBlock(c_in, c_out), DecoderBlock(c_out, c_out)

    def forward(self, en, x, short):
        if self.bilinear:
            x = F.interpolate(x, scale_factor=2, mode='bilinear', align_corners=False)
        else:
            x = self.up(en, x)
        return self.dconv1(self.dconv(x + short))


def short(c_in, c_out):
    return nn.Sequential(conv(c_in, c_out), ABN(c_out))


class AuthorsMatting(nn.Module):
    """Normalised picture and trimap to alpha."""

    def __init__(self, upsampler):
        super().__init__()
        self.layer0 = nn.Sequential(conv(4, 64, 7), ABN(64))
        self.layer1 = Blocks(64)
        self.layer2_1, self.layer2_2 = DownBlock(64, 128), Blocks(128)
        self.layer3_1, self.layer3_2 = DownBlock(128, 256), Blocks(256)
        self.dconv_pp = Context(256)
        self.short3, self.short2 = short(128, 256), short(64, 128)
        self.short1, self.short0 = short(64, 64), short(4, 64)
        self.decoder_layer4 = Stage(256, 128, upsampler)
        self.decoder_layer3 = Stage(128, 64, upsampler)
        self.decoder_layer2 = Stage(64, 64, upsampler)
        self.decoder_layer1 = Stage(64, 32, upsampler)
        self.pred = nn.Sequential(nn.Sequential(conv(32, 1), ABN(1)), conv(1, 1))

    def forward(self, x):
        l0 = self.layer0(x)
        l0p = F.max_pool2d(l0, 2)
        l1 = self.layer1(F.max_pool2d(l0p, 2))
        l10, down = self.layer2_1(l1)
        l2 = self.layer2_2(down)
        l20, down = self.layer3_1(l2)
        y = self.dconv_pp(self.layer3_2(down))
        y = self.decoder_layer4(l20, y, self.short3(l2))
        y = self.decoder_layer3(l10, y, self.short2(l1))
        y = self.decoder_layer2(l0p, y, self.short1(l0p))
        y = self.decoder_layer1(l0, y, self.short0(x))
        return self.pred(y)
