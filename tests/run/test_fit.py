"""A checkpoint either fits its model or stops the run, with the keys that do not fit."""

import pytest
import torch
from torch import nn

from fade_mm.run import SetupError, load_checkpoint
from fade_mm.run.checkpoint import load_fitting
from fade_mm.upsamplers import FADE, build_upsampler
from tests.tools import CAMVID, camvid_options, config, run


def model():
    return nn.ModuleDict(
        dict(
            conv=nn.Conv2d(3, 4, 1),
            norm=nn.BatchNorm2d(4),
            up=build_upsampler(dict(type='fade'), 4, 4),
        )
    )


def test_a_whole_checkpoint_loads(tmp_path):
    source, target = model(), model()
    torch.save(dict(state_dict=source.state_dict(), meta={}), tmp_path / 'a.pth')
    load_checkpoint(target, str(tmp_path / 'a.pth'))
    for name, x in target.state_dict().items():
        assert torch.equal(x, source.state_dict()[name])


@pytest.mark.parametrize('wrap', [lambda sd: sd, lambda sd: dict(state_dict=sd)])
def test_names_of_parallel_models_and_bare_state_dicts_load(wrap):
    source, target = model(), model()
    load_fitting(target, wrap({f'module.{k}': v for k, v in source.state_dict().items()}))
    assert torch.equal(target['conv'].weight, source['conv'].weight)


def test_a_missing_key_is_named():
    state = model().state_dict()
    del state['conv.bias']
    with pytest.raises(SetupError, match=r'conv\.bias is missing'):
        load_fitting(model(), dict(state_dict=state))


def test_a_misshapen_key_is_named_with_both_shapes():
    state = model().state_dict()
    state['conv.weight'] = torch.zeros(5, 3, 1, 1)
    message = r'conv\.weight has shape \(5, 3, 1, 1\), the model needs \(4, 3, 1, 1\)'
    with pytest.raises(SetupError, match=message):
        load_fitting(model(), dict(state_dict=state))


def test_a_long_list_is_cut():
    with pytest.raises(SetupError, match='and 3 more'):
        load_fitting(model(), dict(state_dict={}))


def test_old_batch_norms_without_a_counter_load():
    state = {k: v for k, v in model().state_dict().items() if 'num_batches' not in k}
    assert load_fitting(model(), dict(state_dict=state)) == []


def test_high_to_low_names_fit():
    state = model().state_dict()
    old = 'up.ker_generator.content_encoder.'
    state['up.kernel_generator.conv2_kernels'] = state.pop(f'{old}weight')
    state['up.kernel_generator.conv2_bias'] = state.pop(f'{old}bias')
    assert load_fitting(model(), dict(state_dict=state)) == []


def test_what_may_be_missing_keeps_its_values_and_is_returned():
    state = {k: v for k, v in model().state_dict().items() if not k.startswith('up.')}
    state['conv.weight'] = torch.zeros(5, 3, 1, 1)
    target = model()
    before = target['conv'].weight.detach().clone()
    kept = load_fitting(target, dict(state_dict=state), [r'up\.', r'conv\.weight'])
    assert set(kept) == {'conv.weight', *(f'up.{name}' for name in FADE(4).state_dict())}
    assert torch.equal(target['conv'].weight, before)


@pytest.fixture
def bilinear(segmentation_root, tmp_path):
    """A trained host model, and options to go on with."""
    work = tmp_path / 'bilinear'
    options = list(camvid_options(segmentation_root, iterations=2))
    run('train', config(CAMVID, 'bilinear'), '--work-dir', work, '--cfg-options', *options)
    return work / 'iter_2.pth', options


def test_testing_a_checkpoint_of_another_model_stops(bilinear):
    checkpoint, options = bilinear
    with pytest.raises(SystemExit, match=r'upsamplers\.0\.gate_generator\.conv\.weight is missing'):
        run('test', config(CAMVID, 'fade'), checkpoint, '--cfg-options', *options)


def test_testing_fade_weights_in_the_host_model_stops():
    """The other mix-up: mmengine would drop the upsamplers and score what is left."""
    state = {f'upsamplers.0.{k}': v for k, v in FADE(4).state_dict().items()}
    with pytest.raises(SetupError, match=r'upsamplers\.0\.gate.* has no place in the model'):
        load_fitting(model(), dict(state_dict=state | model().state_dict()))


def test_other_keys_too_many_are_left_to_mmengine():
    state = model().state_dict() | {'auxiliary_head.weight': torch.zeros(1)}
    assert load_fitting(model(), dict(state_dict=state)) == []


def test_load_from_may_lack_the_upsamplers_and_lists_them(bilinear, tmp_path):
    checkpoint, options = bilinear
    work = tmp_path / 'fade'
    run(
        'train', config(CAMVID, 'fade'), '--work-dir', work,
        '--cfg-options', *options, f'load_from={checkpoint}',
    )  # fmt: skip
    log = next(work.glob('*/*.log')).read_text()
    listed = log.split('; not in it, trained anew:')[1].split('INFO')[0]
    assert listed.count('upsamplers.') == 6 * 7


@pytest.mark.slow
def test_load_from_may_lack_nothing_else(bilinear, tmp_path):
    checkpoint, options = bilinear
    content = torch.load(checkpoint, weights_only=False)
    del content['state_dict']['decode_head.fusion_conv.conv.weight']
    torch.save(content, tmp_path / 'lacking.pth')
    lacking = f'load_from={tmp_path / "lacking.pth"}'
    arguments = ['train', config(CAMVID, 'fade'), '--work-dir', tmp_path / 'a', '--cfg-options']
    with pytest.raises(SystemExit, match=r'decode_head\.fusion_conv\.conv\.weight is missing'):
        run(*arguments, *options, lacking)
    allowed = r"load_from_may_lack=['decode_head\.fusion_conv']"
    run(*arguments, *options, lacking, allowed)
