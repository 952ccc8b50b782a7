"""Times by kind of operator: of PyTorch's, and as a table of several models."""

from collections import defaultdict
from collections.abc import Callable

from rich.table import Table
from torch.profiler import ProfilerActivity, profile

KINDS = 10  # rows of a table, beside one of all others


def time_by_operator(step: Callable[[], object], calls: int) -> dict[str, float]:
    """Milliseconds that each kind of PyTorch's operators takes on the CPU, mean of some calls.

    What an operator calls counts as itself, and not as the caller.
    """
    with profile(activities=[ProfilerActivity.CPU]) as recorded:
        for _ in range(calls):
            step()
    events = recorded.key_averages()
    return {event.key: event.self_cpu_time_total / (1000 * calls) for event in events}


def table_of_kinds(by_model: dict[str, dict[str, float]]) -> Table:
    """A row for each kind of operator that takes much, and one for all others.

    Args:
        by_model: Milliseconds by kind, by the name of the model.
    """
    most = defaultdict(float)
    for kinds in by_model.values():
        for kind, found in kinds.items():
            most[kind] = max(most[kind], found)
    shown = sorted(most, key=most.get, reverse=True)[:KINDS]
    table = Table('ms by operator')
    for name in by_model:
        table.add_column(name, justify='right')
    for kind in shown:
        table.add_row(kind, *(f'{kinds.get(kind, 0):.1f}' for kinds in by_model.values()))
    rest = (sum(v for k, v in kinds.items() if k not in shown) for kinds in by_model.values())
    table.add_row('all others', *(f'{x:.1f}' for x in rest))
    return table
