"""How functions meet `torch.fx.symbolic_trace`."""

import functools
from collections.abc import Callable

from torch.fx import Proxy


def leaf(function: Callable) -> Callable:
    """A function that a symbolic trace records as one call, and does not look into.

    `torch.fx.wrap` does so for callers in one module only.
    """

    @functools.wraps(function)
    def recorded_or_called(*args, **kwargs):
        for x in (*args, *kwargs.values()):
            if isinstance(x, Proxy):
                return x.tracer.create_proxy('call_function', recorded_or_called, args, kwargs)
        return function(*args, **kwargs)

    return recorded_or_called
