"""Errors for the person who set a run up."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager


class SetupError(Exception):
    """Something in a config, a data set or a checkpoint that the user can mend.

    The tools print its message alone, without a stack trace.
    """


def unavailable(weights: str, reason: str) -> SetupError:
    """The error for weights that cannot be had; for remote ones, with what to do instead."""
    message = f'{weights} cannot be loaded: {reason}'
    if '://' in weights:
        message += (
            '. For a backbone, --cfg-options model.backbone.init_cfg.checkpoint=FILE takes the '
            'weights from a local file, and model.backbone.init_cfg=None trains from scratch '
            '(model.pretrained=FILE or None, where the config has that)'
        )
    return SetupError(message)


@contextmanager
def naming_build_errors() -> Iterator[None]:
    """Turn what building a model from a wrong config raises into a `SetupError`."""
    try:
        yield
    except (ImportError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise SetupError(f'the model cannot be built: {error}') from error


def listed(faults: Sequence[str]) -> str:
    """The first ten of a message's items on lines of their own, and how many more there are."""
    more = [f'and {len(faults) - 10} more'] if len(faults) > 10 else []
    return '\n  '.join([*faults[:10], *more])


def run_tool(main: Callable[[], int | None]) -> None:
    """Run a tool's ``main``; exit with its code, if not 0, or with a `SetupError`'s message."""
    try:
        code = main()
    except SetupError as error:
        # An error in a data loader's process arrives inside of that process's stack trace.
        message = str(error).rsplit('SetupError: ', 1)[-1].strip()
        sys.exit(f'error: {message}')
    if code:
        sys.exit(code)
