"""What every command-line tool does before and after its own work."""

import argparse
import ast
import gc
import os
import sys
from collections.abc import Callable

from mmengine.config import DictAction
from torch import distributed

from fade_mm.errors import SetupError, debugging, explained, is_bug

from .checkpoint import use_safe_checkpoints


class ToolParser(argparse.ArgumentParser):
    """A parser that shows a tool's docstring as it is, and knows ``--traceback``.

    Args:
        description: The docstring.
        *examples: Arguments of calls to show below all else.
        **kwargs: As in ``ArgumentParser``.
    """

    def __init__(self, description: str | None = None, *examples: str, **kwargs) -> None:
        kwargs['formatter_class'] = argparse.RawDescriptionHelpFormatter
        if examples:
            lines = [f'  %(prog)s {example}'.rstrip() for example in examples]
            kwargs['epilog'] = '\n'.join(['for example:', *lines])
        super().__init__(description=description, **kwargs)
        self.add_argument(
            '--traceback',
            action=_Debug,
            nargs=0,
            help='show where an error comes from (also with FADE_MM_DEBUG=1)',
        )

    def add_cfg_options(self, example: str = 'model.neck.upsample_cfg.type=fade') -> None:
        """Add ``--cfg-options``, values that override the config's."""
        self.add_argument(
            '--cfg-options',
            nargs='+',
            action=_Options,
            metavar='KEY=VALUE',
            help=f'override values of the config, e.g. {example}',
        )


class _Debug(argparse.Action):
    """Sets the variable, which other processes inherit."""

    def __call__(self, *_) -> None:
        os.environ['FADE_MM_DEBUG'] = '1'


class _Options(DictAction):
    """KEY=VALUE as mmengine reads them, but that spaces stay, and lists and dicts of Python."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        for item in values:
            if '=' not in item:
                parser.error(f'{option_string}: expected KEY=VALUE, got {item}')
        try:
            super().__call__(parser, namespace, values, option_string)
        except (AssertionError, ValueError) as error:
            parser.error(f'{option_string}: {error}')

    @staticmethod
    def _parse_iterable(val: str) -> object:
        if val.startswith(('[', '(', '{')):
            try:
                return ast.literal_eval(val)
            except (SyntaxError, ValueError):
                if '{' in val or 'dict(' in val:
                    raise ValueError(
                        f'{val} is no dict of Python; write it in quotes, e.g. '
                        "custom_hooks=\"[{'type': 'EMAHook'}]\""
                    ) from None
        elif ',' not in val:
            return DictAction._parse_int_float_bool(val.strip('\'"'))
        return DictAction._parse_iterable(val)


def run_tool(main: Callable[[], int | None]) -> None:
    """Run a tool's ``main``; exit with its code, if not 0, or with a `SetupError`'s message.

    Checkpoints are read as data alone. Processes that ``main`` has joined are left when its work is
    done. With ``FADE_MM_DEBUG=1`` in the environment, errors keep their stack traces.
    """
    use_safe_checkpoints()
    try:
        code = main()
    except Exception as error:
        message = str(error) if isinstance(error, SetupError) else explained(error)
        if message is None or is_bug(error) or debugging():
            raise
        # An error in a data loader's process arrives inside of that process's stack trace.
        message = message.rsplit('SetupError: ', 1)[-1].strip()
        sys.exit(f'error: {message}')
    if distributed.is_available() and distributed.is_initialized():
        # Threads of the group that still run while Python ends abort the process. They end with the
        # group, which a model that is only waiting to be collected keeps alive.
        gc.collect()
        distributed.destroy_process_group()
    if code:
        sys.exit(code)
