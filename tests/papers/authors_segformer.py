"""The structure behind the authors' checkpoints: NVlabs' MiT and the head of the FADE authors.

Written down from its description, under the names that its checkpoints have. FADE itself is ours.
"""

import torch
from torch import nn

from fade_mm.upsamplers import build_upsampler


class Attention(nn.Module):
    def __init__(self, width, heads, reduction):
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)
        if reduction > 1:
            self.sr = nn.Conv2d(width, width, reduction, reduction)
            self.norm = nn.LayerNorm(width)

    def forward(self, x, height, width):
        read = x
        if hasattr(self, 'sr'):
            read = self.sr(to_map(x, height, width)).flatten(2).transpose(1, 2)
            read = self.norm(read)
        k, v = self.kv(read).chunk(2, dim=-1)
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in (self.q(x), k, v))
        weights = (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(dim=-1)
        return self.proj((weights @ v).transpose(1, 2).flatten(2))


class DepthwiseConv(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.dwconv = nn.Conv2d(width, width, 3, padding=1, groups=width)


class Mlp(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.dwconv = DepthwiseConv(4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x, height, width):
        x = self.dwconv.dwconv(to_map(self.fc1(x), height, width))
        return self.fc2(nn.functional.gelu(x.flatten(2).transpose(1, 2)))


class Block(nn.Module):
    def __init__(self, width, heads, reduction):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads, reduction)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width)

    def forward(self, x, *size):
        x = x + self.attn(self.norm1(x), *size)
        return x + self.mlp(self.norm2(x), *size)


class PatchEmbed(nn.Module):
    def __init__(self, channels, width, patch, stride):
        super().__init__()
        self.proj = nn.Conv2d(channels, width, patch, stride, patch // 2)
        self.norm = nn.LayerNorm(width)


class MiT(nn.Module):
    def __init__(self, widths, depths):
        super().__init__()
        before = [3, *widths]
        for i, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            patch, stride = (7, 4) if i == 0 else (3, 2)
            heads, reduction = (1, 2, 5, 8)[i], (8, 4, 2, 1)[i]
            blocks = nn.ModuleList(Block(width, heads, reduction) for _ in range(depth))
            setattr(self, f'patch_embed{i + 1}', PatchEmbed(before[i], width, patch, stride))
            setattr(self, f'block{i + 1}', blocks)
            setattr(self, f'norm{i + 1}', nn.LayerNorm(width, eps=1e-6))

    def forward(self, x):
        outs = []
        for stage in '1234':
            embed = getattr(self, f'patch_embed{stage}')
            x = embed.proj(x)
            size = x.shape[2:]
            x = embed.norm(x.flatten(2).transpose(1, 2))
            for block in getattr(self, f'block{stage}'):
                x = block(x, *size)
            x = to_map(getattr(self, f'norm{stage}')(x), *size)
            outs.append(x)
        return outs


class Projection(nn.Module):
    def __init__(self, width, channels):
        super().__init__()
        self.proj = nn.Linear(width, channels)

    def forward(self, x):
        return to_map(self.proj(x.flatten(2).transpose(1, 2)), *x.shape[2:])


class Fusion(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(4 * channels, channels, 1, bias=False)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x):
        return self.bn(self.conv(x)).relu()


class Head(nn.Module):
    def __init__(self, widths, channels, classes, upsample_cfg):
        super().__init__()
        self.conv_seg = nn.Conv2d(128, classes, 1)  # never used
        for i, width in enumerate(widths):
            setattr(self, f'linear_c{i + 1}', Projection(width, channels))
        self.linear_fuse = Fusion(channels)
        self.linear_pred = nn.Conv2d(channels, classes, 1)
        self.upsamplers = nn.ModuleList(
            build_upsampler(upsample_cfg, channels, channels) for _ in range(6)
        )

    def forward(self, features):
        c1, c2, c3, c4 = (
            getattr(self, f'linear_c{i + 1}')(feature) for i, feature in enumerate(features)
        )
        up = self.upsamplers
        c4 = up[2](c1, up[1](c2, up[0](c3, c4)))
        c3 = up[4](c1, up[3](c2, c3))
        c2 = up[5](c1, c2)
        return self.linear_pred(self.linear_fuse(torch.cat([c4, c3, c2, c1], dim=1)))


class AuthorsSegFormer(nn.Module):
    """Image to logits at a quarter of its size; sizes are multiples of 32."""

    def __init__(self, widths, depths, channels, classes, upsample_cfg):
        super().__init__()
        self.backbone = MiT(widths, depths)
        self.decode_head = Head(widths, channels, classes, upsample_cfg)

    def forward(self, image):
        return self.decode_head(self.backbone(image))


def to_map(x, height, width):
    return x.transpose(1, 2).unflatten(2, (height, width))
