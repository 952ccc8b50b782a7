"""Parts of configs."""

from collections.abc import Iterator

from fade_mm.errors import SetupError


def dicts(node: object) -> Iterator[dict]:
    """All dicts in a config, from the outside in."""
    children = ()
    if isinstance(node, dict):
        yield node
        children = node.values()
    elif isinstance(node, list | tuple):
        children = node
    for child in children:
        yield from dicts(child)


def type_name(node: object) -> str:
    """The name of the class of a config's part, without its scope; ``''`` if it names none."""
    kind = node.get('type', '') if isinstance(node, dict) else ''
    return getattr(kind, '__name__', str(kind).rpartition('.')[2])


def metrics_of(cfg: dict, place: str = 'test_evaluator') -> list:
    """The metrics of a config's test, or of another evaluator, to be changed in place."""
    evaluator = cfg[place]
    if isinstance(evaluator, dict) and 'metrics' in evaluator:  # with or without its type
        evaluator.metrics = _as_list(evaluator.metrics)
        return evaluator.metrics
    cfg[place] = _as_list(evaluator)
    return cfg[place]


def _as_list(value: object) -> list:
    return list(value) if isinstance(value, list | tuple) else [value]


def test_sets(cfg: dict) -> list[dict]:
    """The configs of a test's data sets, inside of any wrappers, which have pipelines."""
    found = _leaves(cfg.test_dataloader.dataset)
    if not all(dataset.get('pipeline') for dataset in found):
        raise SetupError('--tta needs a pipeline in test_dataloader.dataset')
    return found


def _leaves(dataset: dict) -> list[dict]:
    inner = dataset.get('datasets') or [dataset.get('dataset')]
    return [dataset] if inner == [None] else [leaf for x in inner for leaf in _leaves(x)]


def check_pickle(path: str) -> None:
    """Raise unless a path is a pickle file's."""
    if not path.endswith(('.pkl', '.pickle')):
        raise SetupError(f'--out takes a .pkl file for this model, got {path}')
