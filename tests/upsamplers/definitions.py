"""Every upsampler a second time, from the papers' formulas, slow and plain.

``w`` is the layer's state dict.
"""

from math import ceil, sqrt

import torch
import torch.nn.functional as F

from tests import definition


def weights_of(w, name):
    return w[f'ker_generator.{name}.weight'], w.get(f'ker_generator.{name}.bias')


def encoded(w, x):
    weight, bias = weights_of(w, 'content_encoder')
    return F.conv2d(x, weight, bias, padding=1, groups=x.shape[1] // weight.shape[1])


def nearest(x, size, scale_factor=2):
    return definition.nearest(x, size, definition.step(x.shape[2:], size, scale_factor))


def from_encoder(w, en, de):
    logits = encoded(w, F.conv2d(en, *weights_of(w, 'compressor_en')))
    return definition.reassemble(de, logits.softmax(1))


def naive(w, en, de):
    both = torch.cat([en, nearest(de, en.shape[2:])], dim=1)
    (weight_en, bias), (weight_de, _) = (weights_of(w, f'compressor_{x}') for x in ('en', 'de'))
    logits = encoded(w, F.conv2d(both, torch.cat([weight_en, weight_de], dim=1), bias))
    return definition.reassemble(de, logits.softmax(1))


def semi_shift(w, en, de):
    logits, low = (
        encoded(w, F.conv2d(x, *weights_of(w, f'compressor_{name}')))
        for name, x in (('en', en), ('de', de))
    )
    return definition.reassemble(de, (logits + nearest(low, en.shape[2:])).softmax(1))


def gated(w, en, de):
    gate = F.conv2d(de, w['gate_generator.conv.weight'], w['gate_generator.conv.bias']).sigmoid()
    gate = nearest(gate, en.shape[2:])
    return gate * en + (1 - gate) * semi_shift(w, en, de)


FORMULAS = {
    'b1': from_encoder,
    'b3': naive,
    'b4': semi_shift,
    'b5': lambda w, en, de: en + semi_shift(w, en, de),
    'b6': gated,
}


def pooled(w, name, x, size):
    """Averages over ``size x size`` cells, then a 1x1 convolution: ``(out, size, size)``."""
    c, h, width = x.shape
    cells = torch.empty(c, size, size, dtype=x.dtype)
    for i in range(size):
        for j in range(size):
            rows = slice(i * h // size, ceil((i + 1) * h / size))
            cols = slice(j * width // size, ceil((j + 1) * width / size))
            cells[:, i, j] = x[:, rows, cols].mean((1, 2))
    weight, bias = w[f'kernel_gen.{name}.1.weight'], w[f'kernel_gen.{name}.1.bias']
    return torch.einsum('oc,cij->oij', weight[:, :, 0, 0], cells) + bias[:, None, None]


def group_norm(w, name, x, groups):
    weight, bias = w[f'kernel_gen.{name}.0.weight'], w[f'kernel_gen.{name}.0.bias']
    y = x.reshape(groups, -1)
    variance = y.var(1, unbiased=False, keepdim=True)
    y = (y - y.mean(1, keepdim=True)) / (variance + 1e-5).sqrt()
    return y.reshape(x.shape) * weight[:, None, None] + bias[:, None, None]


def a2u(w, en, de, groups, kernel_size=3):
    """Image by image, as the authors' first implementation goes."""
    logits = []
    for x in en:
        c, h, width = x.shape
        even = F.pad(x, [2, 2 + width % 2, 2, 2 + h % 2])
        patches = even.unfold(1, 6, 2).unfold(2, 6, 2)  # (C, H, W, 6, 6)
        views = []
        for name, norm in (('bconv_U', 'bnu'), ('bconv_V', 'bnv')):
            view = (patches * pooled(w, name, x, 6)[0]).sum((3, 4))
            view = group_norm(w, norm, view, groups)
            views.append(torch.where(view > 0, view, 0.01 * view))
        affinity = (views[0] * views[1]).sum(0) / sqrt(c)
        up = pooled(w, 'bconv_UP', x, 1).view(kernel_size**2, 2, 2, 1, 1) * affinity
        up = up.permute(0, 3, 1, 4, 2).flatten(3, 4).flatten(1, 2)
        logits.append(up[:, :h, :width].sigmoid())
    return definition.reassemble(de, torch.stack(logits).softmax(1))


def layer_norm(w, name, x):
    x = (x - x.mean()) / (x.var(unbiased=False) + 1e-5).sqrt()
    return x * w[f'{name}.weight'] + w[f'{name}.bias']


def linear(w, name, x):
    return w[f'{name}.weight'] @ x + w[f'{name}.bias']


def query_of(w, similarity, en, de):
    """The query of a high-resolution point and the low-resolution point that it lies in."""
    y = layer_norm(w, 'norm_y', en)
    if similarity == 'inner':
        return y
    if similarity == 'bilinear':
        return linear(w, 'q', y)
    gate = linear(w, 'gate', layer_norm(w, 'norm_x', de)).sigmoid()
    return gate * linear(w, 'qy', y) + (1 - gate) * linear(w, 'qx', de)


def sapa(w, en, de, similarity, kernel_size=5, scale_factor=2):
    n, _, h, width = en.shape
    H, W = de.shape[2:]
    step = 1 if (h, width) == (H, W) else scale_factor
    out = torch.zeros(n, de.shape[1], h, width, dtype=en.dtype)
    reach = range(-(kernel_size // 2), kernel_size // 2 + 1)
    for b in range(n):
        keys = {}
        for p in range(H):
            for q in range(W):
                key = layer_norm(w, 'norm_x', de[b, :, p, q])
                keys[p, q] = key if similarity == 'inner' else linear(w, 'k', key)
        for i in range(h):
            for j in range(width):
                p, q = min(i // step, H - 1), min(j // step, W - 1)
                query = query_of(w, similarity, en[b, :, i, j], de[b, :, p, q])
                points = [(p + u, q + v) for u in reach for v in reach]
                scores = [query @ keys[at] if at in keys else query.sum() * 0 for at in points]
                kernel = torch.stack(scores).softmax(0)
                for weight, at in zip(kernel, points, strict=True):
                    if at in keys:
                        out[b, :, i, j] += weight * de[b, :, at[0], at[1]]
    return out


def bilinear_sample(feature, y, x):
    """``feature`` ``(C, H, W)`` at a point measured from the centre of its first one."""
    H, W = feature.shape[1:]
    y, x = y.clamp(0, H - 1), x.clamp(0, W - 1)
    top, left = int(y.detach().floor()), int(x.detach().floor())
    down, right = min(top + 1, H - 1), min(left + 1, W - 1)
    fy, fx = y - top, x - left
    upper = (1 - fx) * feature[:, top, left] + fx * feature[:, top, right]
    lower = (1 - fx) * feature[:, down, left] + fx * feature[:, down, right]
    return (1 - fy) * upper + fy * lower


def dysample(w, x, style, groups, s):
    n, c, H, W = x.shape
    source = F.pixel_shuffle(x, s) if style == 'pl' else x

    def projected(name, b, at, channel):
        value = w[f'{name}.weight'][channel, :, 0, 0] @ source[b, :, at[0], at[1]]
        return value + w[f'{name}.bias'][channel] if f'{name}.bias' in w else value

    out = torch.zeros(n, c, s * H, s * W, dtype=x.dtype)
    for b, g in ((b, g) for b in range(n) for g in range(groups)):
        channels = slice(g * c // groups, (g + 1) * c // groups)
        for i, j in ((i, j) for i in range(s * H) for j in range(s * W)):
            moved = []
            for axis, point in ((1, i), (0, j)):  # the offsets of x come first
                at, channel = (i, j), axis * groups + g
                if style == 'lp':
                    at, channel = (i // s, j // s), (channel * s + i % s) * s + j % s
                offset = projected('offset', b, at, channel)
                scope = 0.25
                if 'scope.weight' in w:
                    scope = 0.5 * projected('scope', b, at, channel).sigmoid()
                moved.append(point // s + (point % s - (s - 1) / 2) / s + offset * scope)
            out[b, channels, i, j] = bilinear_sample(x[b, channels], *moved)
    return out


def zero_padded_sample(feature, y, x):
    """``feature`` ``(C, H, W)`` at a point measured from the centre of its first one; 0 outside."""
    H, W = feature.shape[1:]
    top, left = int(y.detach().floor()), int(x.detach().floor())
    total = feature[:, 0, 0] * 0
    for row, col in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
        if 0 <= row < H and 0 <= col < W:
            total = total + (1 - (y - row).abs()) * (1 - (x - col).abs()) * feature[:, row, col]
    return total


def sapa_d(w, en, de, groups=2, s=2):
    """Point by point, group by group."""
    n, _, h, width = en.shape
    (H, W), c = de.shape[2:], de.shape[1]
    step = 1 if (h, width) == (H, W) else s

    def at(name, x):
        return (
            torch.einsum('oc,chw->ohw', w[f'{name}.weight'][:, :, 0, 0], x)
            + (w[f'{name}.bias'][:, None, None])
        )

    out = torch.zeros(n, c, h, width, dtype=en.dtype)
    for b in range(n):
        query, key, offset = at('q', en[b]), at('k', de[b]), at('offset', de[b])
        offset = offset.reshape(groups, -1, 2, s, s, H, W)
        query, key = (x.reshape(groups, -1, *x.shape[1:]) for x in (query, key))
        value = de[b].reshape(groups, -1, H, W)
        for i, j, g in ((i, j, g) for i in range(h) for j in range(width) for g in range(groups)):
            p, q = min(i // step, H - 1), min(j // step, W - 1)
            # Where rounding down leaves a row or a column over, it reads the last sub-pixel.
            u, v = (min(a - low * step, s - 1) if step > 1 else 0 for a, low in ((i, p), (j, q)))
            moves = offset[g, :, :, u, v, p, q]
            places = [(p + move[1], q + move[0]) for move in moves]
            keys = [zero_padded_sample(key[g], *place) for place in places]
            kernel = torch.stack([query[g, :, i, j] @ x for x in keys]).softmax(0)
            chosen = [zero_padded_sample(value[g], *place) for place in places]
            channels = slice(g * c // groups, (g + 1) * c // groups)
            out[b, channels, i, j] = sum(a * x for a, x in zip(kernel, chosen, strict=True))
    return out


def channel_norm(w, name, x):
    x = (x - x.mean(0)) / (x.var(0, unbiased=False) + 1e-5).sqrt()
    return x * w[f'{name}.norm.weight'][:, None, None] + w[f'{name}.norm.bias'][:, None, None]


def lda_aqu(w, x, groups=2, window=3, reach=11, s=2):
    """Point by point; positions in the output are scaled so that corners lie on corners."""
    n, c, H, W = x.shape
    h, width = s * H, s * W
    ratio_y, ratio_x = (H - 1) / (h - 1), (W - 1) / (width - 1)
    table = w['relative_position_bias_table'][0, 0, 0]
    out = torch.zeros(n, c, h, width, dtype=x.dtype)
    for b in range(n):
        normed = channel_norm(w, 'layer_norm', x[b])
        low, key = (
            torch.einsum('oc,chw->ohw', w[f'proj_{name}.weight'][:, :, 0, 0], normed)
            for name in 'qk'
        )
        query = torch.empty(len(low), h, width, dtype=x.dtype)
        for i, j in ((i, j) for i in range(h) for j in range(width)):
            place = torch.tensor([i * ratio_y, j * ratio_x], dtype=x.dtype)
            query[:, i, j] = zero_padded_sample(low, *place)
        moves = []
        for part in query.chunk(groups):
            y = F.conv2d(part, w['conv_offset.0.weight'], padding=1, groups=len(part))
            y = channel_norm(w, 'conv_offset.1', y)
            y = y * (1 + torch.erf(y / sqrt(2))) / 2
            moves.append(reach * convolved(w, 'conv_offset.3', y[None])[0].tanh())
        keys, values = key.chunk(groups), x[b].chunk(groups)
        for i, j in ((i, j) for i in range(h) for j in range(width)):
            scores, chosen = [], []
            for t in range(window**2):
                places = [
                    (
                        (i + t // window - window // 2 + move[2 * t, i, j]) * ratio_y,
                        (j + t % window - window // 2 + move[2 * t + 1, i, j]) * ratio_x,
                    )
                    for move in moves
                ]
                sampled = [
                    torch.cat(
                        [zero_padded_sample(f, *at) for f, at in zip(parts, places, strict=True)]
                    )
                    for parts in (keys, values)
                ]
                scores.append(query[:, i, j] @ (sampled[0] + table[t]) / sqrt(len(key)))
                chosen.append(sampled[1])
            kernel = torch.stack(scores).softmax(0)
            out[b, :, i, j] = sum(a * value for a, value in zip(kernel, chosen, strict=True))
    return out


def convolved(w, name, x):
    weight, bias = w[f'{name}.weight'], w[f'{name}.bias']
    return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2)


def eight_cosines(x):
    """With the points at a distance of two in a window of three, row by row; outside is zero."""
    n, c, h, width = x.shape
    points = F.unfold(x, 3, dilation=2, padding=2).reshape(n, c, 9, h, width)
    cosines = F.cosine_similarity(points, x[:, :, None], dim=1)
    return cosines[:, [0, 1, 2, 3, 5, 6, 7, 8]]


def freqfusion_offsets(w, high, low, direction_feat, norm, s):
    """How far points of the fine guide move, in points of the coarse one: ``(N, 2, G, h, w)``."""
    sums = [0, 0]
    for x, suffix, prefix in ((high, 'hr', 'hr_'), (low, 'lr', '')):
        if norm:
            affine = [w[f'dysampler.norm_{suffix}.{name}'] for name in ('weight', 'bias')]
            groups = x.reshape(len(x), x.shape[1] // 8, -1)
            variance = groups.var(2, unbiased=False, keepdim=True) + 1e-5
            x = ((groups - groups.mean(2, keepdim=True)) / variance.sqrt()).reshape(x.shape)
            x = x * affine[0][:, None, None] + affine[1][:, None, None]
        similar = eight_cosines(x)
        both = torch.cat([x, similar], dim=1)
        sources = (similar, x) if direction_feat == 'sim' else (both, both)
        for i, name in enumerate(('offset', 'direct_scale')):
            y = convolved(w, f'dysampler.{prefix}{name}', sources[i])
            if suffix == 'lr':
                y = F.pixel_shuffle(y, s)
                if high.shape == low.shape:  # the first sub-pixel of each point
                    y = y[:, :, ::s, ::s]
                y = definition.nearest(y, high.shape[2:], 1)
            sums[i] = sums[i] + y
    return (sums[0] * sums[1].sigmoid()).unflatten(1, (2, -1))


def freqfusion(w, en, de, direction_feat='sim_concat', norm=True, resample=True, s=2):
    """The encoder feature and the upsampled one."""

    def normalised(logits, window):
        kernels = logits.softmax(1) * w[f'hamming_{window}'].reshape(1, -1, 1, 1)
        return kernels / kernels.sum(1, keepdim=True)

    def low_pass(x, logits):
        return definition.reassemble(x, normalised(logits, 'lowpass'), s)

    def high_pass(x, logits):
        return x - definition.reassemble(x, normalised(logits, 'highpass'), 1)

    high = convolved(w, 'hr_channel_compressor', en)
    low = convolved(w, 'lr_channel_compressor', de)
    first = convolved(w, 'content_encoder2', high)
    high = high + high_pass(high, first)
    smooth = convolved(w, 'content_encoder', high)
    smooth = smooth + low_pass(convolved(w, 'content_encoder', low), smooth)
    sharp = first + low_pass(convolved(w, 'content_encoder2', low), smooth)
    sharpened, y = en + high_pass(en, sharp), low_pass(de, smooth)
    if not resample:
        return sharpened, y
    offsets = freqfusion_offsets(w, high, low, direction_feat, norm, s)
    offsets = definition.step(de.shape[2:], en.shape[2:], s) * offsets
    (n, c, h, width), groups = y.shape, offsets.shape[2]
    moved = torch.empty_like(y)
    for b, g in ((b, g) for b in range(n) for g in range(groups)):
        channels = slice(g * c // groups, (g + 1) * c // groups)
        for i, j in ((i, j) for i in range(h) for j in range(width)):
            dx, dy = offsets[b, :, g, i, j]
            moved[b, channels, i, j] = bilinear_sample(y[b, channels], i + dy, j + dx)
    return sharpened, moved


def indices(w, block, patch):
    """The outputs of an index block for a patch ``(N, C, k, k)``."""
    if f'{block}.weight' in w:
        return torch.einsum('ocij,ncij->no', w[f'{block}.weight'], patch)
    x = torch.einsum('ocij,ncij->no', w[f'{block}.0.weight'], patch)
    if f'{block}.3.weight' not in w:
        return x
    std = (w[f'{block}.1.running_var'] + 1e-5).sqrt()
    x = (x - w[f'{block}.1.running_mean']) / std * w[f'{block}.1.weight'] + w[f'{block}.1.bias']
    return x.clamp(0, 6) @ w[f'{block}.3.weight'][:, :, 0, 0].T


def indexnet(w, en, de, network, context):
    n, c, h, width = en.shape
    size, before = (4, 1) if context else (2, 0)
    padded = en.new_zeros(n, c, h + 6, width + 6)
    padded[:, :, 2 : 2 + h, 2 : 2 + width] = en
    out = torch.zeros(n, de.shape[1], h, width, dtype=en.dtype)
    step = 1 if en.shape[2:] == de.shape[2:] else 2
    for i in range(h):
        for j in range(width):
            top, left = 2 * (i // 2) - before + 2, 2 * (j // 2) - before + 2
            patch = padded[:, :, top : top + size, left : left + size]
            phase = 2 * (i % 2) + j % 2
            if network == 'holistic':
                index = indices(w, 'index_net.indexnet', patch)[:, [phase]]
            else:
                index = indices(w, f'index_net.indexnet{phase + 1}', patch)
            low = [min(a // step, b - 1) for a, b in zip((i, j), de.shape[2:], strict=True)]
            out[:, :, i, j] = index.sigmoid() * de[:, :, low[0], low[1]]
    return out


def carafe_logits(w, de, kernel_size=5, scale_factor=2):
    """One convolution makes the kernels of a point's sub-pixels, row by row."""
    n, _, H, W = de.shape
    s = scale_factor
    weight = w['channel_compressor.weight'][:, :, 0, 0]
    embedded = torch.einsum('oc,nchw->nohw', weight, de)
    embedded = embedded + w['channel_compressor.bias'][:, None, None]
    encoder = w['content_encoder.weight'], w['content_encoder.bias']
    logits = F.conv2d(embedded, *encoder, padding=encoder[0].shape[-1] // 2)
    logits = logits.reshape(n, kernel_size**2, s, s, H, W)
    return torch.einsum('ntijhw->nthiwj', logits).reshape(n, kernel_size**2, s * H, s * W)


def carafe(w, de):
    return definition.reassemble(de, carafe_logits(w, de).softmax(1))


def deconv(w, de, scale_factor=2):
    """Each point adds its kernel to the output; the output's overhang is cut on both sides."""
    n, _, H, W = de.shape
    s, k = scale_factor, w['weight'].shape[-1]
    cut = max(0, (k - s + 1) // 2)
    out = de.new_zeros(n, w['weight'].shape[1], s * H + 2 * k, s * W + 2 * k)
    for i in range(H):
        for j in range(W):
            kernel = torch.einsum('nc,cokl->nokl', de[:, :, i, j], w['weight'])
            out[:, :, s * i : s * i + k, s * j : s * j + k] += kernel
    out = out[:, :, cut : cut + s * H, cut : cut + s * W]
    return out + w['bias'][:, None, None]


def pixel_shuffle(w, de, scale_factor=2):
    s = scale_factor
    n, _, H, W = de.shape
    weight, bias = w['upsample_conv.weight'], w['upsample_conv.bias']
    subpixels = F.conv2d(de, weight, bias, padding=weight.shape[-1] // 2).reshape(n, -1, s, s, H, W)
    return torch.einsum('ncijhw->nchiwj', subpixels).reshape(n, -1, s * H, s * W)


def depthwise(w, de):
    """A sum of shifted copies of the enlarged feature, each channel with its own weights."""
    x = F.pad(bilinear({}, de), (2, 2, 2, 2))
    h, width = (2 * a for a in de.shape[2:])
    shifted = [
        w['filter.weight'][:, :, i, j, None] * x[:, :, i : i + h, j : j + width]
        for i in range(5)
        for j in range(5)
    ]
    return sum(shifted) + w['filter.bias'][:, None, None]


def nearest_twice(w, de):
    return de.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)


def bilinear(w, de):
    """Samples between the centres of points; what is outside is that at the border."""
    n, c, H, W = de.shape
    out = de.new_zeros(n, c, 2 * H, 2 * W)
    for b in range(n):
        for i in range(2 * H):
            for j in range(2 * W):
                y, x = (torch.tensor((a + 0.5) / 2 - 0.5, dtype=de.dtype) for a in (i, j))
                out[b, :, i, j] = bilinear_sample(de[b], y, x)
    return out


def alone(enlarge):
    """A layer that reads the decoder feature alone, as the builder wraps it."""

    def at_the_size_of_en(w, en, de):
        if en.shape[2:] == de.shape[2:]:
            return de
        own = {name.removeprefix('layer.'): x for name, x in w.items()}
        return definition.nearest(enlarge(own, de), en.shape[2:], 1)

    return at_the_size_of_en


def of_dysample(style, groups):
    return alone(lambda w, de: dysample(w, de, style, groups, 2))


def from_decoder(w, en, de):
    own = {name.removeprefix('ker_generator.'): x for name, x in w.items()}
    logits = carafe_logits(own, de)
    if en.shape[2:] == de.shape[2:]:  # the first sub-pixel of each point
        logits = logits[:, :, ::2, ::2]
    logits = definition.nearest(logits, en.shape[2:], 1)
    return definition.reassemble(de, logits.softmax(1))


DEFINITIONS = {
    'fade': gated,
    'fade_lite': gated,
    **{f'fade_{row}': formula for row, formula in FORMULAS.items()},
    'fade_b2': from_decoder,
    'carafe': alone(carafe),
    'sapa': lambda w, *x: sapa(w, *x, 'bilinear'),
    'sapa_i': lambda w, *x: sapa(w, *x, 'inner'),
    'sapa_b': lambda w, *x: sapa(w, *x, 'bilinear'),
    'sapa_g': lambda w, *x: sapa(w, *x, 'gated'),
    'sapa_d': sapa_d,
    'lda_aqu': alone(lda_aqu),
    'dysample': of_dysample('lp', 4),
    'dysample_plus': of_dysample('lp', 4),
    'dysample_s': of_dysample('pl', 4),
    'dysample_s_plus': of_dysample('pl', 4),
    'freqfusion': lambda w, *x: freqfusion(w, *x)[1],
    'freqfusion_segnext': lambda w, *x: freqfusion(w, *x, 'sim')[1],
    'indexnet': lambda w, *x: indexnet(w, *x, 'holistic', True),
    'indexnet_matting': lambda w, *x: indexnet(w, *x, 'm2o', True),
    'indexnet_m2o': lambda w, *x: indexnet(w, *x, 'm2o', False),
    'a2u': lambda w, *x: a2u(w, *x, 4),
    'a2u_published': lambda w, *x: a2u(w, *x, 4),
    'nearest': alone(nearest_twice),
    'bilinear': alone(bilinear),
    'depthwise': alone(depthwise),
    'deconv': alone(deconv),
    'deconv3': alone(deconv),
    'pixel_shuffle': alone(pixel_shuffle),
    'pixel_shuffle3': alone(pixel_shuffle),
}
"""``definition(state dict, en, de)`` of what `tests.layers.EVERY` builds, by name."""
