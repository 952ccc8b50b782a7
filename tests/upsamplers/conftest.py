"""What the tests of upsamplers share."""

import pytest
import torch


@pytest.fixture(autouse=True)
def fresh_compiler():
    """All upsamplers have one ``forward``, whose compilations count together."""
    torch.compiler.reset()
