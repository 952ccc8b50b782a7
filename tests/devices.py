"""Where tests run: on the CPU and, where there is one, on a GPU, without being asked.

There ``-k 'cuda or triton'`` selects what only such a machine can show.
"""

import pytest
import torch

DEVICES = ['cpu', 'cuda'] if torch.cuda.is_available() else ['cpu']
every_device = pytest.mark.parametrize('device', DEVICES)
