"""What is public is documented, with an example that runs, and README names every upsampler."""

import doctest
import inspect
import re
from pathlib import Path

import pytest
import torch

from fade_mm import ops, upsamplers
from fade_mm.upsamplers import UPSAMPLERS, registry

README = Path(__file__).parents[2] / 'README.md'
PUBLIC = [
    getattr(module, name)
    for module in (ops, upsamplers)
    for name in module.__all__
    if callable(getattr(module, name))
]


@pytest.fixture(autouse=True)
def nothing_stays_registered(monkeypatch):
    monkeypatch.setattr(registry, 'MODELS', None)
    before = dict(UPSAMPLERS)
    yield
    UPSAMPLERS.clear()
    UPSAMPLERS.update(before)


@pytest.mark.parametrize('public', PUBLIC, ids=lambda x: x.__name__)
def test_public_names_have_examples_that_run(public):
    doc = inspect.getdoc(public)
    assert 'Example:' in doc
    test = doctest.DocTestParser().get_doctest(doc, {}, public.__name__, None, None)
    assert test.examples
    torch.manual_seed(0)
    said = []
    assert not doctest.DocTestRunner().run(test, out=said.append).failed, ''.join(said)


@pytest.mark.parametrize('name', sorted(UPSAMPLERS))
def test_every_upsampler_is_in_the_readme(name):
    rows = [line for line in README.read_text().splitlines() if line.startswith('|')]
    assert any(re.search(rf"`'{name}'`", row) for row in rows), name


@pytest.mark.parametrize('name', sorted(UPSAMPLERS))
def test_every_upsampler_says_what_it_takes(name):
    layer = UPSAMPLERS[name]
    if inspect.isclass(layer):
        for section in ('Args:', 'Raises:', 'Source:', 'Example:'):
            assert section in layer.__doc__
        missing = [x for x in inspect.signature(layer).parameters if x not in layer.__doc__]
        assert not missing
    else:
        assert layer.__doc__
