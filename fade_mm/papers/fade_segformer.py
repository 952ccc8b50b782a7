"""The authors' SegFormer checkpoints (poppinace/fade, NVlabs' backbone) in our models."""

import re

import torch
from torch import Tensor, nn

from fade_mm.errors import SetupError, listed
from fade_mm.run.checkpoint import load_fitting

_BLOCK = r'backbone\.layers\.(\d)\.1\.(\d+)\.'
_THEIR_BLOCK = 'backbone.block{}.{}.'
# Our names, and theirs in the order in which they are packed; the first number is a stage.
_NAMES = {
    r'backbone\.layers\.(\d)\.0\.projection\.(\w+)': ['backbone.patch_embed{}.proj.{}'],
    r'backbone\.layers\.(\d)\.0\.norm\.(\w+)': ['backbone.patch_embed{}.norm.{}'],
    _BLOCK + r'attn\.attn\.in_proj_(\w+)': [
        _THEIR_BLOCK + 'attn.q.{}',
        _THEIR_BLOCK + 'attn.kv.{}',
    ],
    _BLOCK + r'attn\.attn\.out_proj\.(\w+)': [_THEIR_BLOCK + 'attn.proj.{}'],
    _BLOCK + r'((?:norm1|norm2|attn\.sr|attn\.norm)\.\w+)': [_THEIR_BLOCK + '{}'],
    _BLOCK + r'ffn\.layers\.0\.(\w+)': [_THEIR_BLOCK + 'mlp.fc1.{}'],
    _BLOCK + r'ffn\.layers\.1\.(\w+)': [_THEIR_BLOCK + 'mlp.dwconv.dwconv.{}'],
    _BLOCK + r'ffn\.layers\.4\.(\w+)': [_THEIR_BLOCK + 'mlp.fc2.{}'],
    r'backbone\.layers\.(\d)\.2\.(\w+)': ['backbone.norm{}.{}'],
    r'decode_head\.convs\.(\d)\.conv\.(\w+)': ['decode_head.linear_c{}.proj.{}'],
    r'decode_head\.fusion_conv\.(.+)': ['decode_head.linear_fuse.{}'],
    r'decode_head\.conv_seg\.(\w+)': ['decode_head.linear_pred.{}'],
}
_UNUSED = ('decode_head.conv_seg.weight', 'decode_head.conv_seg.bias')
_SHARED = 'decode_head.upsamplers.'  # FADE itself reads the names of both of its formulations


def load_official_segformer(model: nn.Module, checkpoint: dict) -> None:
    """Load a SegFormer of FADE's authors, or of NVlabs, into ours; the logits stay the same.

    Args:
        model: A segmentor with `MixVisionTransformer(conv_norm_eps=1e-5)` and
            `SegformerHead(plain_projections=True)`, receives the weights.
        checkpoint: A state dict under the authors' names, or a dict with one under ``state_dict``.

    Raises:
        SetupError: a key is missing, unknown or has another shape.
    """
    theirs = checkpoint.get('state_dict', checkpoint)
    if not isinstance(theirs, dict):
        raise SetupError(f'state_dict must be a dict of tensors, got {type(theirs).__name__}')
    theirs = {str(name).removeprefix('module.'): value for name, value in theirs.items()}
    theirs = {name: value for name, value in theirs.items() if name not in _UNUSED}
    ours = {name: theirs.pop(name) for name in list(theirs) if name.startswith(_SHARED)}
    faults = []
    for name, own in model.state_dict().items():
        if name.startswith(_SHARED):
            continue
        ours[name] = torch.empty_like(own)
        for source, slot in _slots(name, ours[name]).items():
            value = theirs.pop(source, None)
            if not isinstance(value, Tensor):
                faults.append(f'{source} is missing')
                continue
            linear = value.ndim == 2 and slot.shape[2:] == (1, 1)  # ours is a 1x1 convolution
            needed = slot.shape[:2] if linear else slot.shape
            if value.shape == needed:
                slot.copy_(value.reshape(slot.shape))
            else:
                shape = tuple(value.shape)
                faults.append(f'{source} has shape {shape}, the model needs {tuple(needed)}')
    unknown = [f'{name} is unknown' for name in theirs]
    if faults or unknown:
        lines = '\n  '.join(listed(some) for some in (unknown, faults) if some)
        raise SetupError(f"the checkpoint is not the authors' SegFormer of this size:\n  {lines}")
    fusion = 'decode_head.fusion_conv.conv.weight'
    levels = len(model.decode_head.in_channels)
    # They concatenate from coarse to fine, mmsegmentation from fine to coarse.
    ours[fusion] = ours[fusion].unflatten(1, (levels, -1)).flip(1).flatten(1, 2)
    load_fitting(model, ours)


def _slots(name: str, own: Tensor) -> dict[str, Tensor]:
    """The parts of one of our tensors by their names at the authors'."""
    for pattern, theirs in _NAMES.items():
        match = re.fullmatch(pattern, name)
        if match:
            first, *rest = match.groups()
            first = int(first) + 1 if first.isdigit() else first
            parts = own.tensor_split([len(own) // 3]) if len(theirs) == 2 else [own]
            return dict(zip((x.format(first, *rest) for x in theirs), parts, strict=True))
    raise SetupError(f"the model's {name} has no counterpart in the authors' SegFormer")
