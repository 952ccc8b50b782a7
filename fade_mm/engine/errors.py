"""Errors for the person who set a run up."""


class SetupError(Exception):
    """Something in a config, a data set or a checkpoint that the user can mend.

    The tools print its message alone, without a stack trace.
    """


def unavailable(weights: str, reason: str) -> SetupError:
    """The error for weights that cannot be had, with what to do instead."""
    return SetupError(
        f'{weights} cannot be loaded: {reason}. Mend that, or give a local file '
        '(--cfg-options model.backbone.init_cfg.checkpoint=FILE), or train from scratch '
        '(--cfg-options model.backbone.init_cfg=None)'
    )
