"""What holds for every upsample layer: precisions, compilation, export, parallel copies, its own
start.
"""

import copy

import pytest
import torch
import torch._dynamo.testing
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.export import Dim, export
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

from fade_mm.ops.checks import check_dtypes
from fade_mm.upsamplers import (
    CARAFE,
    FADE,
    UPSAMPLERS,
    AsUpsampler,
    Deconv,
    Upsampler,
    build_upsampler,
)
from tests.devices import every_device
from tests.layers import EVERY, SIZES, assert_same, features, randomised

from .definitions import DEFINITIONS

GROUPED = [
    dict(type='carafe', up_group=2),
    dict(type='fade', up_group=2),
    dict(type='fade_lite', up_group=2),
    dict(type='a2u', num_groups=4, up_group=2),
    dict(type='sapa_g', up_group=2),
]
VARIANTS = [
    dict(type='fade', kernel_generation='semi-shift-h2l'),
    dict(type='indexnet', network='m2o'),
    *GROUPED,
]
"""What takes a path of its own and is no preset."""
NAMES = dict(ids=lambda cfg: '-'.join(map(str, cfg.values())))
every_upsampler = pytest.mark.parametrize('cfg', [*EVERY, *VARIANTS], **NAMES)
one_of_a_kind = pytest.mark.parametrize(
    'cfg',
    [
        dict(type='nearest'),
        dict(type='carafe'),
        dict(type='indexnet'),
        dict(type='a2u', num_groups=4),
        dict(type='sapa_g'),
        dict(type='dysample_plus'),
        dict(type='freqfusion'),
        dict(type='sapa_d'),
        dict(type='lda_aqu'),
        dict(type='fade'),
        dict(type='fade', up_group=2),
    ],
    **NAMES,
)


def build(cfg, size=(1, 8, 7, 8), device='cpu'):
    torch.manual_seed(0)
    up = build_upsampler(cfg, 8, 8).eval()
    for p in up.parameters():
        nn.init.normal_(p, std=0.3)
    n, c, h, w = size
    de_size = n, c, -(-h // 2), -(-w // 2)
    return up.to(device), torch.randn(size).to(device), torch.randn(de_size).to(device)


def test_every_upsampler_has_a_definition_here():
    assert set(DEFINITIONS) == set(UPSAMPLERS)


@pytest.mark.parametrize('cfg', EVERY, **NAMES)
@pytest.mark.parametrize('size', SIZES[1:4], ids=str)
@every_device
def test_every_upsampler_is_its_definition(cfg, size, device):
    up = randomised(build_upsampler(cfg, 4, 4))
    assert_same(up, DEFINITIONS[cfg['type']], *features(size, 4, batch=1), device=device)


def error(up, en, de):
    """The largest error of a half-precision output, in its epsilons of the largest value.

    What the same rounded weights and inputs give in double precision is exact.
    """
    out = up(en, de)
    assert out.dtype == de.dtype
    exact = copy.deepcopy(up).double()(en.double(), de.double())
    return (out - exact).abs().max() / exact.abs().max() / torch.finfo(de.dtype).eps


PLAIN_CONVOLUTIONS = ('deconv', 'depthwise', 'pixel_shuffle')
HALF = pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16], ids=str)


@every_upsampler
@HALF
@every_device
def test_half_precision_rounds_a_few_times(cfg, dtype, device):
    """Convolutions' results are rounded, and a softmax carries that on."""
    up, en, de = build(cfg, device=device)
    assert error(up.to(dtype), en.to(dtype), de.to(dtype)) < 8


@every_upsampler
@HALF
@every_device
def test_half_precision_accumulates_in_single(cfg, dtype, device):
    """Without weights, kernels are exact averages: what is left is one rounding of the result.

    Adding up 25 points in half precision would cost several.
    """
    up, _, _ = build(cfg, device=device)
    for p in up.parameters():
        nn.init.zeros_(p)
    en, de = (1 + torch.rand(1, 8, *x).to(device) for x in ((7, 8), (4, 4)))
    if not cfg['type'].startswith(PLAIN_CONVOLUTIONS):  # they give zeros
        assert error(up.to(dtype), en.to(dtype), de.to(dtype)) < 1


@every_upsampler
@every_device
def test_autocast_keeps_the_dtype_of_de(cfg, device):
    up, en, de = build(cfg, device=device)
    exact = up(en, de)
    with torch.autocast(device, torch.bfloat16):
        out = up(en, de)
        assert up(en.bfloat16(), de.bfloat16()).dtype == torch.bfloat16
    is_torchs = cfg['type'].startswith(PLAIN_CONVOLUTIONS)
    assert out.dtype == (torch.bfloat16 if is_torchs else torch.float32)
    scale = exact.abs().max().item() * torch.finfo(torch.bfloat16).eps
    torch.testing.assert_close(out.float(), exact, atol=12 * scale, rtol=0)


@every_upsampler
@every_device
def test_channels_last_computes_the_same(cfg, device):
    up, en, de = build(cfg, (2, 8, 7, 8), device)
    last = [x.to(memory_format=torch.channels_last) for x in (en, de)]
    torch.testing.assert_close(up(*last), up(en, de), atol=1e-4, rtol=1e-4)


@one_of_a_kind
@every_device
def test_compiles_in_one_graph(cfg, device):
    up, en, de = build(cfg, device=device)
    compiled = torch.compile(up, fullgraph=True, backend='aot_eager')
    torch.testing.assert_close(compiled(en, de), up(en, de))


@pytest.mark.parametrize('name', ['fade', 'fade_lite', 'carafe', 'sapa_b'])
@every_device
def test_gradients_repeat_bit_for_bit(name, device, monkeypatch):
    """Of what has no sampling and no pooling of torch's in it, which on a GPU refuses."""
    monkeypatch.setenv('CUBLAS_WORKSPACE_CONFIG', ':4096:8')
    up, en, de = build(dict(type=name), (2, 8, 15, 13), device)
    torch.use_deterministic_algorithms(True)
    try:
        runs = []
        for _ in range(2):
            inputs = [en.clone().requires_grad_(), de.clone().requires_grad_(), *up.parameters()]
            out = up(*inputs[:2])
            grads = torch.autograd.grad(out.square().sum(), inputs, materialize_grads=True)
            runs.append([out, *grads])
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(map(torch.equal, *runs))


EXPORTED = [(15, 13, 8, 7), (6, 5, 6, 5)]
"""Sizes to export with: of ``en`` twice those of ``de``, rounded up, and equal."""


@every_upsampler
@pytest.mark.parametrize('size', EXPORTED, ids=str)
def test_exports_with_dynamic_sizes(cfg, size):
    up = build(cfg)[0]
    sizes = {name: {0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC} for name in ('en', 'de')}
    inputs = tuple(x.detach().float() for x in features(size, 8))
    program = export(up, inputs, dynamic_shapes=sizes).module()
    for run in [(14, 12, 7, 6), (19, 10, 9, 5), (21, 9, 11, 5), (5, 6, 5, 6), (3, 3, 3, 3)]:
        en, de = (x.detach().float() for x in features(run, 8, batch=run[0] % 4))
        torch.testing.assert_close(program(en, de), up(en, de), atol=1e-4, rtol=1e-4, msg=f'{run}')


@pytest.mark.parametrize('cfg', [dict(type='carafe'), dict(type='sapa_b')], **NAMES)
def test_a_strict_export_is_right_or_refuses(cfg):
    up, en, de = build(cfg, (2, 8, 14, 12))
    sizes = {name: {2: Dim.DYNAMIC, 3: Dim.DYNAMIC} for name in ('en', 'de')}
    program = export(up, (en, de), dynamic_shapes=sizes, strict=True).module()
    en, de = torch.randn(2, 8, 19, 10), torch.randn(2, 8, 9, 5)
    torch.testing.assert_close(program(en, de), up(en, de), atol=1e-4, rtol=1e-4)
    with pytest.raises(AssertionError, match='Guard failed'):
        program(en, torch.randn(2, 8, 19, 10))


def test_an_export_at_one_size_upsamples_nothing():
    """Nor does it where sizes are surely equal, as behind a dilated backbone."""
    up = build(dict(type='carafe'))[0]
    x = torch.randn(1, 8, 5, 6)
    static = export(up, (x, x + 1))

    class Twice(nn.Module):
        def forward(self, x):
            return up(x, x + 1)

    dynamic = export(Twice(), (x,), dynamic_shapes=({2: Dim.DYNAMIC, 3: Dim.DYNAMIC},))
    for program in (static, dynamic):
        assert not [node for node in program.graph.nodes if 'conv' in str(node.target)]


@pytest.mark.parametrize(
    'cfg',
    [
        dict(type='nearest'),
        dict(type='carafe'),
        dict(type='sapa_g'),
        dict(type='a2u', num_groups=4),
        dict(type='fade_b2'),
        dict(type='fade', kernel_generation='semi-shift-h2l'),
        dict(type='freqfusion'),
        dict(type='sapa_d'),
        dict(type='lda_aqu'),
        *GROUPED,
    ],
    **NAMES,
)
@pytest.mark.slow
def test_one_onnx_file_serves_all_batches_and_sizes(cfg, tmp_path):
    """Of each way to know equal sizes, and those whose indices ONNX could take for others."""
    onnxruntime = pytest.importorskip('onnxruntime')
    export_onnx = pytest.importorskip('fade_mm.run.export').export_onnx
    up, path = build(cfg)[0], tmp_path / 'up.onnx'
    sizes = {0: 'n', 2: 'h', 3: 'w'}, {0: 'n', 2: 'H', 3: 'W'}
    export_onnx(up, (torch.randn(2, 8, 15, 13), torch.randn(2, 8, 8, 7)), path, sizes)
    session = onnxruntime.InferenceSession(path)
    for n, h, w, H, W in [(1, 14, 12, 7, 6), (3, 15, 21, 8, 11), (1, 9, 7, 4, 3), (2, 5, 6, 5, 6)]:
        en, de = torch.randn(n, 8, h, w), torch.randn(n, 8, H, W)
        feed = {'en': en.numpy(), 'de': de.numpy()}
        (out,) = session.run(None, {x.name: feed[x.name] for x in session.get_inputs()})
        with torch.no_grad():
            torch.testing.assert_close(torch.from_numpy(out), up(en, de), atol=1e-4, rtol=1e-4)


@every_upsampler
def test_an_empty_batch_stays_empty(cfg):
    up, en, de = build(cfg, (0, 8, 7, 8))
    en, de = en.requires_grad_(), de.requires_grad_()
    out = up.train()(en, de)
    out.sum().backward()
    assert out.shape == (0, 8, 7, 8)
    assert de.grad.shape == (0, 8, 4, 4)
    assert not any(p.grad.any() for p in up.parameters() if p.grad is not None)


@every_upsampler
def test_checkpoints_recompute_it(cfg):
    """Without reentry, where what backward reads is made when it is read, and once."""
    up, en, de = build(cfg)
    up.eval()  # whose running means a second forward does not move
    found = []
    for again in (False, True):
        inputs = [x.clone().requires_grad_() for x in (en, de)]
        out = checkpoint(up, *inputs, use_reentrant=False) if again else up(*inputs)
        sources = [*inputs, *up.parameters()]
        found.append(torch.autograd.grad(out.square().sum(), sources, materialize_grads=True))
    torch.testing.assert_close(*found, rtol=0, atol=0)


@every_upsampler
def test_a_replica_computes_the_same(cfg):
    """As `nn.DataParallel` makes them: its weights are attributes, and no parameters."""
    up, en, de = build(cfg)
    copies = {module: module._replicate_for_data_parallel() for module in up.modules()}
    for module, replica in copies.items():
        for name, child in module.named_children():
            setattr(replica, name, copies[child])
        for name, p in module._parameters.items():
            setattr(replica, name, p if p is None else p.view_as(p))
    replica = copies[up]
    assert not list(replica.parameters())
    assert torch.equal(replica(en, de), up(en, de))
    if not list(up.parameters()):
        return  # it takes any dtype
    with pytest.raises(TypeError, match=r'torch.float64, but the layer is torch.float32'):
        replica(en.double(), de.double())


@pytest.fixture
def process_group(tmp_path):
    """One process alone, which meets nobody else's."""
    dist.init_process_group('gloo', init_method=f'file://{tmp_path}/store', rank=0, world_size=1)
    yield
    dist.destroy_process_group()


class Host(nn.Module):
    """FSDP registers its one parameter here, so the upsampler is left with none."""

    def __init__(self, up):
        super().__init__()
        self.up = up

    def forward(self, en, de):
        return self.up(en, de)


@every_upsampler
@pytest.mark.filterwarnings('ignore:.*NO_SHARD:UserWarning')
def test_it_trains_with_parameters_that_fsdp_has_flattened(cfg, process_group):
    up, en, de = build(cfg)
    if not list(up.parameters()):
        pytest.skip('it has no parameters')
    out = up(en, de)
    out.sum().backward()
    length = sum(p.grad.square().sum() for p in up.parameters() if p.grad is not None)
    sharded = FullyShardedDataParallel(Host(build(cfg)[0]), device_id=torch.device('cpu'))
    ours = sharded(en, de)
    ours.sum().backward()
    (flat,) = sharded.parameters()
    torch.testing.assert_close(ours, out)
    torch.testing.assert_close(flat.grad.square().sum(), length)


@every_upsampler
def test_it_starts_anew_after_the_meta_device(cfg):
    torch.manual_seed(0)
    expected = build_upsampler(cfg, 8, 8)
    torch.manual_seed(0)
    up = build_upsampler(cfg, 8, 8).to('meta')
    up.to_empty(device='cpu')
    for x in up.state_dict().values():
        x.fill_(7)
    up.init_weights()
    for name, x in up.state_dict().items():
        assert x.shape == expected.state_dict()[name].shape
        assert not (x == 7).any(), name
    en, de = torch.rand(1, 8, 7, 8), torch.rand(1, 8, 4, 4)
    assert up(en, de).isfinite().all()


@every_upsampler
def test_its_weights_are_made_where_and_what_they_shall_be(cfg):
    up = build_upsampler(cfg, 8, 8)
    if list(up.state_dict()):
        up = build_upsampler(dict(cfg, device='meta', dtype=torch.float64), 8, 8)
        kinds = {(x.device.type, x.dtype) for x in up.state_dict().values() if x.dim()}
        assert kinds == {('meta', torch.float64)}
    inputs = (torch.empty(1, 8, *s, device='meta', dtype=torch.float64) for s in ((7, 8), (4, 4)))
    assert up(*inputs).shape == (1, 8, 7, 8)


@every_upsampler
def test_a_pair_is_the_encoder_feature_and_the_output(cfg):
    up, en, de = build(cfg)
    first, second = up.pair(en, de)
    changes_en = type(up).pair is not Upsampler.pair
    assert first.shape == en.shape if changes_en else first is en
    assert torch.equal(second, up(en, de))


class Net(nn.Module):
    def __init__(self, up):
        super().__init__()
        self.before, self.up, self.after = nn.Conv2d(8, 8, 1), up, nn.Conv2d(8, 2, 1)

    def forward(self, en, de):
        return self.after(self.up(self.before(en), de))


TRACED = [(8, 12, 4, 6), (5, 6, 5, 6)]
RUN = [(8, 12, 4, 6), (7, 9, 4, 5), (7, 9, 3, 4), (5, 6, 5, 6)]


@every_upsampler
def test_fx_traces_it_for_all_sizes(cfg):
    up = build(cfg)[0]
    net = Net(up)
    graphs = torch.fx.symbolic_trace(up), torch.fx.symbolic_trace(net)
    for size in RUN:
        inputs = features(size, 8)
        for graph, model in zip(graphs, (up, net), strict=True):
            x = [a.detach().float() for a in inputs]
            torch.testing.assert_close(graph(*x), model(*x), msg=f'{size}')
    kept = {name for name, _ in net.named_parameters() if 'bconv_DP' not in name}  # never used
    assert {name for name, _ in graphs[1].named_parameters()} == kept


@pytest.mark.parametrize('layer', [CARAFE(8), Deconv(8, 8, 3)], ids=lambda x: type(x).__name__)
def test_fx_traces_calls_with_one_argument(layer):
    model = nn.Sequential(nn.Conv2d(8, 8, 1), layer)
    alone = torch.fx.symbolic_trace(layer, concrete_args={'de': None})
    within = torch.fx.symbolic_trace(model)
    for size in [(3, 4), (5, 5)]:
        x = torch.rand(1, 8, *size)
        torch.testing.assert_close(alone(x), layer(x))
        torch.testing.assert_close(within(x), model(x))


@every_upsampler
@pytest.mark.parametrize('traced', TRACED, ids=str)
@pytest.mark.filterwarnings('ignore::torch.jit.TracerWarning')
def test_a_jit_trace_holds_for_all_sizes(cfg, traced):
    up = build(cfg)[0]
    trace = torch.jit.trace(up, [x.detach().float() for x in features(traced, 8)])
    for size in RUN:
        x = [a.detach().float() for a in features(size, 8)]
        torch.testing.assert_close(trace(*x), up(*x), atol=1e-5, rtol=1e-5, msg=f'{size}')


@every_upsampler
def test_scripting_is_refused_in_one_line(cfg):
    up = build(cfg)[0]
    for model in (up, Net(up)):
        with pytest.raises(TypeError, match=r'cannot be scripted; use torch\.export\.export or'):
            torch.jit.script(model)


class LoRA(nn.Module):
    """In place of a convolution, as adapters of weights are: it has none of its attributes."""

    def __init__(self, conv):
        super().__init__()
        self.base = conv

    def forward(self, x):
        return 2 * self.base(x)


@every_upsampler
def test_wrapped_convolutions_are_called(cfg):
    """A wrapper that doubles is the same as doubled weights."""
    up, en, de = build(cfg)
    wrapped = copy.deepcopy(up)
    convolutions = [name for name, x in up.named_modules() if type(x) is nn.Conv2d]
    for name in convolutions:
        parent, _, child = name.rpartition('.')
        parent = wrapped.get_submodule(parent)
        parent.register_module(child, LoRA(getattr(parent, child)))
        for p in up.get_submodule(name).parameters():
            p.data.mul_(2)
    torch.testing.assert_close(wrapped(en, de), up(en, de), atol=1e-5, rtol=1e-5)
    wrapped.init_weights()


def parametrised(up, parametrisation):
    """The upsampler's convolutions, which it parametrises."""
    convolutions = [x for x in up.modules() if isinstance(x, nn.Conv2d | nn.ConvTranspose2d)]
    return [parametrisation(x) for x in convolutions]


@every_upsampler
@pytest.mark.parametrize(
    ('parametrisation', 'weight_of'),
    [
        (parametrizations.weight_norm, lambda conv: conv.weight),
        (parametrizations.spectral_norm, lambda conv: conv.parametrizations.weight.original),
    ],
    ids=['weight', 'spectral'],
)
def test_normed_convolutions_start_as_others(cfg, parametrisation, weight_of):
    up = build_upsampler(cfg, 8, 8)
    torch.manual_seed(0)
    up.init_weights()
    expected = copy.deepcopy(up)
    convolutions = parametrised(up, parametrisation)
    if not all(conv.weight.isfinite().all() for conv in convolutions):
        pytest.skip('it starts with zeros, of which a weight norm makes NaN')
    for p in up.parameters():
        nn.init.constant_(p, 7.0)
    torch.manual_seed(0)
    up.init_weights()
    plain = parametrised(expected, lambda conv: conv)
    for conv, start in zip(convolutions, plain, strict=True):
        torch.testing.assert_close(weight_of(conv), start.weight)
        assert conv.bias is start.bias is None or torch.equal(conv.bias, start.bias)
    assert not any((p == 7).any() for p in up.parameters())


@every_upsampler
def test_the_check_of_dtypes_leaves_a_spectral_norm_as_it_is(cfg):
    up = build_upsampler(cfg, 8, 8)
    convolutions = parametrised(up.train(), parametrizations.spectral_norm)
    before = copy.deepcopy(up.state_dict())
    check_dtypes(up, de=torch.rand(1))
    assert all(torch.equal(x, before[name]) for name, x in up.state_dict().items())
    if convolutions:
        with pytest.raises(TypeError, match=r'torch.float64, but the layer is torch.float32'):
            check_dtypes(up, de=torch.rand(1).double())


def test_layers_in_a_sequence_have_their_own_start():
    """And what is none of ours in it has PyTorch's."""
    carafe, conv = CARAFE(8), nn.Conv2d(8, 8, 1)
    up = AsUpsampler(nn.Sequential(conv, nn.Sequential(carafe)))
    torch.manual_seed(0)
    conv.reset_parameters()
    carafe.init_weights()
    expected = copy.deepcopy(up.state_dict())
    torch.manual_seed(0)
    up.init_weights()
    for name, x in up.state_dict().items():
        assert torch.equal(x, expected[name]), name


@every_upsampler
def test_what_there_is_to_look_at(cfg):
    up, en, de = build(cfg)
    for view in up.views(en, de):
        assert view.name in ('kernels', 'gate', 'index', 'offsets')
        assert view.tensor.dim() == 4
        assert len(view.tensor) >= len(en)
        assert view.meaning
        if view.name in ('gate', 'index', 'kernels'):
            assert 0 <= view.tensor.min() <= view.tensor.max() <= 1
        if view.name == 'kernels':
            torch.testing.assert_close(view.tensor.sum(1), torch.ones(len(view.tensor), 7, 8))


@one_of_a_kind
def test_new_sizes_do_not_exhaust_recompilation(cfg):
    """Of all sizes that fit: those known, those unknown, and those equal or of one point."""
    up = build(cfg)[0]
    count = torch._dynamo.testing.CompileCounter()
    compiled = torch.compile(up, backend=count, fullgraph=True)
    generator = torch.Generator().manual_seed(0)
    for _ in range(12):
        h, w = torch.randint(4, 40, (2,), generator=generator).tolist()
        H, W = ((a + torch.randint(0, 2, (), generator=generator).item()) // 2 for a in (h, w))
        en, de = torch.rand(1, 8, h, w), torch.rand(1, 8, H, W)
        torch.testing.assert_close(compiled(en, de), up(en, de), atol=1e-5, rtol=1e-5)
    assert count.frame_count <= 5  # some of them torch's own: a convolution asks how large it is


@one_of_a_kind
def test_a_compiled_layer_knows_equal_sizes(cfg):
    up = build(cfg)[0]
    compiled = torch.compile(up, backend='eager', fullgraph=True, dynamic=True)
    for size in [(8, 12, 4, 6), (5, 6, 5, 6), (7, 9, 4, 5)]:
        x = [a.detach().float() for a in features(size, 8)]
        torch.testing.assert_close(compiled(*x), up(*x), atol=1e-5, rtol=1e-5, msg=f'{size}')


def test_printing_shows_what_is_not_the_default():
    shown = "in_channels_en=8, in_channels_de=8, scale_factor=4, fusion='none'"
    assert FADE(8, gating=False, scale_factor=4).extra_repr() == shown
