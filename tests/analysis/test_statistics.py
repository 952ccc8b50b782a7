"""Measures of upsamplers: of known kernels, of every upsampler, in training and testing."""

import json
import math

import pytest
import torch
import yaml

from fade_mm.analysis.statistics import (
    UpsamplerStatistics,
    fixed_views,
    has_begun,
    measuring_upsamplers,
    overview,
)
from fade_mm.upsamplers import FADE, IndexNet, Upsampler, View, build_upsampler
from tests.layers import every_upsampler
from tests.tools import CAMVID, SHAPES, camvid_options, config, run


class Shown(Upsampler):
    """An upsampler that shows what it is given."""

    def __init__(self, *views):
        super().__init__()
        self.shown = views

    def upsample(self, en, de):
        return en

    def views(self, en, de):
        return list(self.shown)


def measured(name, *pictures, groups=1):
    """The measures of a view, given for each picture ``(channels, h, w)``."""
    tensor = torch.stack(pictures)
    statistics = UpsamplerStatistics(Shown(View(name, tensor, '')))
    h, w = tensor.shape[2:]
    n = len(pictures) // groups
    statistics.update(
        torch.zeros(n, 1, h, w), torch.zeros(n, 1, math.ceil(h / 2), math.ceil(w / 2))
    )
    return {key.removeprefix(f'{name}.'): value for key, value in statistics.summary().items()}


def one_hot(tap, h=6, w=8):
    """Kernels of 3 x 3 that all have their weight in one tap."""
    kernels = torch.zeros(9, h, w)
    kernels[tap] = 1
    return kernels


def test_a_fixed_shift():
    found = measured('kernels', one_hot(0), one_hot(0))
    assert found == pytest.approx(
        dict(entropy=0, reach=math.sqrt(2), variation=0, between_pictures=0)
    )


def test_weights_of_chosen_points_have_no_place_in_a_window():
    weights = torch.full((1, 5, 6, 8), 0.2)
    statistics = UpsamplerStatistics(Shown(View('kernels', weights, '', in_window=False)))
    statistics.update(torch.zeros(1, 1, 6, 8), torch.zeros(1, 1, 3, 4))
    found = statistics.summary()
    assert found['kernels.entropy'] == pytest.approx(1)
    assert 'kernels.reach' not in found


def test_a_mean_of_all_points():
    found = measured('kernels', torch.full((9, 6, 8), 1 / 9))
    assert found == pytest.approx(dict(entropy=1, reach=0, variation=0), abs=1e-6)


def test_a_kernel_for_each_sub_pixel_is_fixed_all_the_same():
    kernels = torch.zeros(9, 6, 8)
    for i in range(2):
        for j in range(2):
            kernels[3 * i + j, i::2, j::2] = 1
    assert measured('kernels', kernels, kernels)['variation'] == 0


def test_kernels_that_change_from_column_to_column():
    """Half of the points have another tap: each is half a weight from the mean."""
    kernels = one_hot(0)
    kernels[:, :, 4:] = one_hot(5)[:, :, 4:]
    found = measured('kernels', kernels, kernels)
    assert found['variation'] == pytest.approx(0.5)
    assert found['between_pictures'] == 0
    assert found['reach'] == pytest.approx((math.sqrt(2) + 1) / 2)


def test_kernels_that_change_from_picture_to_picture_alone():
    found = measured('kernels', one_hot(0), one_hot(5))
    assert found['variation'] == 0
    assert found['between_pictures'] == pytest.approx(0.5)
    assert not fixed_views({f'kernels.{key}': value for key, value in found.items()})


def test_single_points_do_not_vary_but_pictures_differ():
    found = measured('kernels', one_hot(0, 2, 2), one_hot(5, 2, 2))
    assert 'variation' not in found
    assert found['between_pictures'] == pytest.approx(0.5)


def test_groups_of_channels_are_averaged():
    changing = one_hot(0)
    changing[:, :, 4:] = one_hot(5)[:, :, 4:]
    found = measured('kernels', one_hot(0), changing, one_hot(0), changing, groups=2)
    assert found['variation'] == pytest.approx(0.25)


def test_offsets_and_gates():
    offsets = torch.zeros(4, 6, 8)  # x of two groups, then y
    offsets[0], offsets[2] = 3, 4
    found = measured('offsets', offsets)
    assert found == pytest.approx(dict(reach=2.5, variation=0))
    offsets[0, :, 4:] = -3
    assert measured('offsets', offsets)['variation'] == pytest.approx(1.5)
    gate = torch.linspace(0, 1, 2).view(1, 2, 1).expand(1, 2, 4).repeat_interleave(4, 1)
    found = measured('gate', gate)
    assert found == pytest.approx(dict(mean=0.5, variation=0.5))


def test_what_is_measured_does_not_depend_on_the_batches():
    up = FADE(8)
    pictures = [(torch.rand(1, 8, 6, 8), torch.rand(1, 8, 3, 4)) for _ in range(3)]
    one_by_one, at_once = UpsamplerStatistics(up), UpsamplerStatistics(up)
    for picture in pictures:
        one_by_one.update(*picture)
    at_once.update(*(torch.cat(x) for x in zip(*pictures, strict=True)))
    assert one_by_one.summary() == pytest.approx(at_once.summary(), abs=1e-6)


def test_a_layer_with_groups_is_measured_as_the_mean_of_layers_of_their_own():
    up, single = FADE(8, up_group=2), FADE(8)
    with torch.no_grad():  # the second group's kernels hardly look at the picture
        up.ker_generator.content_encoder.weight[:25] *= 10
        up.ker_generator.content_encoder.bias[26] = 10
    inputs = torch.rand(2, 8, 6, 8), torch.rand(2, 8, 3, 4)

    def summary(layer):
        statistics = UpsamplerStatistics(layer)
        statistics.update(*inputs)
        return statistics.summary()

    own = []
    shapes = {name: x.shape for name, x in single.state_dict().items()}
    for g in range(2):
        w = up.state_dict().items()
        single.load_state_dict(
            {name: x if x.shape == shapes[name] else x.chunk(2)[g] for name, x in w}
        )
        own.append(summary(single))
    assert own[0]['kernels.variation'] > 10 * own[1]['kernels.variation']
    mean = {name: (own[0][name] + own[1][name]) / 2 for name in own[0]}
    assert summary(up) == pytest.approx(mean, abs=1e-6)


def test_an_empty_batch_has_no_measures():
    statistics = UpsamplerStatistics(FADE(8))
    statistics.update(torch.zeros(0, 8, 6, 8), torch.zeros(0, 8, 3, 4))
    assert statistics.summary() == {}


@every_upsampler
def test_every_upsampler_is_measured_and_left_as_it_is(cfg):
    up = build_upsampler(cfg, 8, 8).train()
    before = {name: x.clone() for name, x in up.state_dict().items()}
    en, de = torch.rand(2, 8, 7, 9), torch.rand(2, 8, 4, 5)
    statistics = UpsamplerStatistics(up)
    state = torch.get_rng_state()
    statistics.update(en, de)
    found = statistics.summary()
    assert {key.partition('.')[0] for key in found} == {view.name for view in up.views(en, de)}
    assert all(math.isfinite(value) for value in found.values())
    assert torch.equal(torch.get_rng_state(), state)
    up = build_upsampler(cfg, 8, 8).train()
    up.load_state_dict(before)
    UpsamplerStatistics(up).update(en, de)
    assert all(torch.equal(x, before[name]) for name, x in up.state_dict().items())


def test_a_collapsed_and_a_living_layer():
    """Logits that training has made large, by the same factor: of the bias, or of the picture."""
    living, collapsed = FADE(8), FADE(8)
    with torch.no_grad():
        living.ker_generator.content_encoder.weight *= 10
        collapsed.ker_generator.content_encoder.bias[7] = 20
    model = torch.nn.ModuleDict(dict(living=living, collapsed=collapsed))
    with measuring_upsamplers(model) as found:
        for up in model.values():
            up(torch.rand(2, 8, 6, 8), torch.rand(2, 8, 3, 4))
    summaries = {name: statistics.summary() for name, statistics in found.items()}
    assert not fixed_views(summaries['living'])
    assert fixed_views(summaries['collapsed']) == ['kernels']
    assert summaries['collapsed']['kernels.entropy'] < 0.01
    assert has_begun(summaries['collapsed'], 'kernels')
    variations = [summary['kernels.variation'] for summary in summaries.values()]
    mean = pytest.approx(sum(variations) / 2)
    assert overview(summaries) == {'upsamplers/fixed': 1, 'upsamplers/kernels.variation': mean}
    assert overview({}) == overview({'nearest': {}}) == {}
    assert not any(up._forward_hooks for up in model.values())


def test_an_index_that_ignores_the_picture():
    up = IndexNet(8)
    en, de = torch.rand(2, 8, 8, 8), torch.rand(2, 8, 4, 4)
    with torch.no_grad():
        for p in up.parameters():
            p.zero_()
    statistics = UpsamplerStatistics(up)
    statistics.update(en, de)
    assert fixed_views(statistics.summary()) == ['index']


@pytest.mark.parametrize(('name', 'kind'), [('carafe', 'kernels'), ('dysample', 'offsets')])
def test_layers_that_start_without_looking_are_not_called_collapsed(name, kind):
    up = build_upsampler(dict(type=name), 16, 16)
    statistics = UpsamplerStatistics(up)
    statistics.update(torch.rand(2, 16, 8, 8), torch.rand(2, 16, 4, 4))
    assert fixed_views(statistics.summary()) == [kind]
    assert not has_begun(statistics.summary(), kind)


def collapse(checkpoint, path):
    """A checkpoint whose first upsampler has one and the same kernel everywhere."""
    content = torch.load(checkpoint, weights_only=False)
    name = 'decode_head.upsamplers.0.ker_generator.content_encoder.bias'
    content['state_dict'][name][3] = 50
    torch.save(content, path)
    return path


def test_a_training_is_watched_and_a_test_if_asked_for(segmentation_root, tmp_path, capfd):
    cfg = config(CAMVID, 'fade')
    options = list(camvid_options(segmentation_root, iterations=2))
    run('train', cfg, '--work-dir', tmp_path, '--cfg-options', *options)
    out = capfd.readouterr().out
    assert 'Variation of kernels from point to point, by layer: ' in out
    assert 'fixed filter' not in out
    lines = next(tmp_path.glob('*/vis_data/scalars.json')).read_text().splitlines()
    scalars = next(x for line in lines if 'upsamplers/' in line for x in [json.loads(line)])
    assert 0 < scalars['upsamplers/decode_head.upsamplers.5.kernels.variation'] < 1
    for i in range(6):
        assert 0 < scalars[f'upsamplers/decode_head.upsamplers.{i}.gate.mean'] < 1
    last = json.loads([line for line in lines if 'upsamplers/' in line][-1])
    assert last['step'] == 2  # the trained model
    values = [value for name, value in last.items() if name.endswith('kernels.variation')]
    kept = yaml.safe_load((tmp_path / 'result.yml').read_text())['scores']
    assert kept['upsamplers/fixed'] == 0
    expected = pytest.approx(sum(values) / len(values), abs=1e-4)
    assert kept['upsamplers/kernels.variation'] == expected

    checkpoint = collapse(tmp_path / 'iter_2.pth', tmp_path / 'collapsed.pth')
    run('test', cfg, checkpoint, '--monitor', '--work-dir', tmp_path, '--cfg-options', *options)
    out = capfd.readouterr()
    warned = next(x for x in (out.out + out.err).splitlines() if 'would do as well' in x)
    assert "decode_head.upsamplers.0's kernels: the same" in warned
    assert "upsamplers.1's" not in out.out + out.err
    assert 'entropy' in out.out
    kept = yaml.safe_load((tmp_path / 'test_result.yml').read_text())['scores']
    assert kept['upsamplers/fixed'] == 1
    assert 0 < kept['upsamplers/kernels.variation'] < 1


def test_a_monitor_of_ones_own_is_the_only_one(tmp_path):
    from fade_mm.run import load_config, monitor_upsamplers

    cfg = load_config(str(config(SHAPES, 'fade')), work_dir=str(tmp_path))
    cfg.custom_hooks = [dict(type='fade_mm.UpsamplerMonitorHook', interval=0)]
    monitor_upsamplers(cfg)
    assert cfg.custom_hooks == [dict(type='fade_mm.UpsamplerMonitorHook', interval=0)]
    cfg.custom_hooks = None
    monitor_upsamplers(cfg)
    assert cfg.custom_hooks == [dict(type='fade_mm.UpsamplerMonitorHook')]
