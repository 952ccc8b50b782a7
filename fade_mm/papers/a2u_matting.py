"""The authors' matting checkpoints (poppinace/fade, dongdong93/a2u_matting) in our model."""

from torch import Tensor

from fade_mm.errors import SetupError, listed
from fade_mm.hosts.matting.a2u_matting import A2UMatting
from fade_mm.hosts.matting.pretrained import as_batch_norm

_UPSAMPLER = '.up.'  # its norms, if it has any, are plain ones


def load_official_a2u_matting(model: A2UMatting, checkpoint: dict) -> None:
    """Load a matting model of FADE's authors into ours; alpha stays the same.

    Their in-place batch norms scale by ``|weight| + 1e-5``, which ours get as their weights.

    Args:
        model: With the checkpoint's upsampler; receives the weights.
        checkpoint: A state dict under the authors' names, or a dict with one under ``state_dict``,
            from data parallel training or not.

    Raises:
        SetupError: a key is missing, unknown or has another shape.
    """
    theirs = checkpoint.get('state_dict', checkpoint)
    if not isinstance(theirs, dict) or not any(isinstance(x, Tensor) for x in theirs.values()):
        raise SetupError(f'state_dict must be a dict of tensors, got {type(theirs).__name__}')
    theirs = {str(name).removeprefix('module.'): value for name, value in theirs.items()}
    ups = {name: value for name, value in theirs.items() if _UPSAMPLER in name}
    norms = as_batch_norm({name: value for name, value in theirs.items() if name not in ups})
    network = model.network
    counts = {k: v for k, v in network.state_dict().items() if k.endswith('num_batches_tracked')}
    try:
        missing, unknown = network.load_state_dict({**counts, **norms, **ups}, strict=False)
        faults = [f'{name} is missing' for name in missing]
        faults += [f'{name} is unknown' for name in unknown]
    except RuntimeError as error:  # it names those of another shape
        faults = [line.strip() for line in str(error).splitlines()[1:]]
    if faults:
        raise SetupError(
            f"the checkpoint is not the authors' A2U Matting with this upsampler:\n  "
            f'{listed(faults)}'
        )
