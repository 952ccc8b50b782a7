"""What holds for every class of ours in a host, and for those that stand in for the library's."""

import importlib

import pytest
import torch
from torch import nn

from fade_mm.errors import SetupError, naming_build_errors
from fade_mm.hosts import Host, host_of, stand_ins
from fade_mm.hosts.base import StandIn, stand_in_of
from fade_mm.registry import HOSTS
from tests.hosts.standing_in import PAIRS, STANDING_IN, UPSAMPLING
from tests.layers import EVERY

stand_in = pytest.mark.parametrize('name', STANDING_IN)
upsampling = pytest.mark.parametrize('name', UPSAMPLING)
with_every_upsampler = pytest.mark.parametrize(
    ('name', 'cfg'),
    [
        pytest.param(name, cfg, id=f'{cfg["type"]}-{name}')
        for name in UPSAMPLING
        for cfg in EVERY
        if cfg['type'] not in PAIRS[name].stock_types
    ],
)


def varied(module):
    """The module in evaluation mode, nothing in it left at a constant."""
    torch.manual_seed(0)
    module.init_weights()
    with torch.no_grad():
        for p in module.parameters():
            p.add_(torch.randn_like(p), alpha=0.05)
    module.eval()  # which returns nothing of a ResNet
    return module


def build(name, **kwargs):
    torch.manual_seed(0)
    pair = PAIRS[name]
    return pair.ours(**{**pair.arguments, **kwargs})


def test_none_is_left_out():
    """A row in `standing_in.PAIRS` is all that a new one needs to be tested here."""
    assert set(PAIRS) == set(stand_ins.__all__)
    takes_upsamplers = {x for x in PAIRS if issubclass(getattr(stand_ins, x), StandIn)}
    assert set(UPSAMPLING) == takes_upsamplers


@stand_in
def test_without_an_upsampler_it_is_the_host_bit_for_bit(name):
    pair = PAIRS[name]
    theirs, mine = varied(pair.theirs(**pair.arguments)), build(name)
    mine.eval()
    mine.load_state_dict(theirs.state_dict(), strict=True)
    for size in pair.sizes:
        expected, outs = pair.outputs(theirs, *size), pair.outputs(mine, *size)
        assert all(torch.equal(a, b) for a, b in zip(outs, expected, strict=True))


@stand_in
def test_an_argument_that_the_host_does_not_know_is_named(name):
    message = r"the model cannot be built: .*'upsample_cgf'"
    with pytest.raises(SetupError, match=message), naming_build_errors():
        build(name, upsample_cgf=dict(type='fade'))


@with_every_upsampler
def test_every_upsampler_learns_at_odd_sizes(name, cfg):
    made = build(name, upsample_cfg=cfg)
    assert len(made.upsamplers) == PAIRS[name].upsamplers
    for p in made.upsamplers.parameters():
        if p.dim() == 4 and not p.any():  # before zeros, nothing learns in the first step
            nn.init.normal_(p, std=0.01)
    sum(x.square().mean() for x in PAIRS[name].outputs(made, 33, 47)).backward()
    for key, p in made.upsamplers.named_parameters():
        assert ('bconv_DP' in key) if p.grad is None else p.grad.any(), key
    others = {key: p.grad for key, p in made.named_parameters() if 'upsamplers' not in key}
    assert all(grad is not None for grad in others.values())


@with_every_upsampler
def test_every_upsampler_has_its_own_start(name, cfg):
    """After the host's own, which may start every convolution anew, or none of the upsamplers."""
    made = build(name, upsample_cfg=cfg)
    starts = {id(up): up.init_weights for up in made.upsamplers}
    for up in made.upsamplers:

        def start(up=up):
            starts[id(up)]()
            for p in up.parameters():
                nn.init.constant_(p, 0.125)

        up.init_weights = start
    for p in made.parameters():
        nn.init.constant_(p, 7.0)
    made.init_weights()
    assert all((p == 0.125).all() for p in made.upsamplers.parameters())


@upsampling
def test_the_gate_is_on_where_the_host_leaves_it_to_the_upsampler(name):
    def gates(**arguments):
        ups = build(name, upsample_cfg=dict(type='fade', **arguments)).upsamplers
        return {up.gate_generator is not None for up in ups}

    assert gates() == {PAIRS[name].gated}
    assert gates(gating=True) == {True}


@upsampling
def test_an_encoder_feature_that_the_upsampler_changes_is_merged(name):
    pair = PAIRS[name]
    made = build(name, upsample_cfg=dict(type='dysample')).eval()
    plain = pair.outputs(made, 17, 23)
    for up in made.upsamplers:
        up.pair = lambda en, de, up=up: (2 * en, up(en, de))
    changed = pair.outputs(made, 17, 23)
    same = all(torch.equal(a, b) for a, b in zip(changed, plain, strict=True))
    assert same == (pair.skip is None)


@upsampling
def test_it_says_how_its_host_upsamples(name):
    assert getattr(stand_ins, name).stock_upsampler in ('Nearest', 'Bilinear', 'CARAFE')


@upsampling
def test_it_is_found_by_its_class_and_its_hosts(name):
    pair = PAIRS[name]
    assert stand_in_of(pair.ours) is pair.ours
    assert pair.theirs is None or stand_in_of(pair.theirs) is pair.ours


@pytest.mark.parametrize('host', [x for x in HOSTS.module_dict.values() if x.models])
def test_a_host_is_found_by_the_classes_that_it_names(host):
    for full_name in host.models:
        module, _, name = full_name.rpartition('.')
        cls = getattr(importlib.import_module(module), name)
        assert f'{cls.__module__}.{cls.__qualname__}' == full_name
        concrete = type('Concrete', (cls,), dict.fromkeys(getattr(cls, '__abstractmethods__', ())))
        assert type(host_of(dict(model=dict(type=concrete)))) is host


def test_any_other_model_has_a_host_too():
    assert type(host_of(nn.Linear(1, 1))) is Host
