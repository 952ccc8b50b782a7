"""Errors for the person who set a run up."""


class SetupError(Exception):
    """Something in a config, a data set or a checkpoint that the user can mend.

    The tools print its message alone, without a stack trace.
    """


def unavailable(weights: str, reason: str) -> SetupError:
    """The error for weights that cannot be had, with what to do instead."""
    return SetupError(
        f'{weights} cannot be loaded: {reason}. If these are weights to start from, '
        '--cfg-options model.backbone.init_cfg.checkpoint=FILE takes them from a local file, and '
        'model.backbone.init_cfg=None model.pretrained=None trains from scratch'
    )
