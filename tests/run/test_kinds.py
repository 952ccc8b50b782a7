import torch

from fade_mm import FADE
from fade_mm.run.kinds import table_of_kinds, time_by_operator


def test_a_step_of_fade_by_operator():
    layer = FADE(16)
    en, de = torch.rand(1, 16, 32, 32), torch.rand(1, 16, 16, 16)
    times = time_by_operator(lambda: layer(en, de).sum().backward(), calls=2)
    assert times['fade_mm::gated_reassemble_backward'] > 0
    assert times['aten::convolution_backward'] > 0


def test_what_takes_most_comes_first_and_the_rest_is_one_row():
    kinds = {f'kind {i}': float(i) for i in range(12)}
    table = table_of_kinds({'a': kinds, 'b': {'kind 3': 30.0}})
    names, a, b = (list(column.cells) for column in table.columns)
    assert names[:2] == ['kind 3', 'kind 11']
    assert names[-1] == 'all others'
    assert (a[0], b[0]) == ('3.0', '30.0')
    assert (a[-1], b[-1]) == ('1.0', '0.0')  # of kinds 0 and 1
