"""What holds for every upsample layer: precisions, compilation, export, parallel copies, its own
start.
"""

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.export import Dim, export

from fade_mm.models import FPN
from fade_mm.upsamplers import build_upsampler

OURS = [
    dict(type='carafe'),
    dict(type='indexnet'),
    dict(type='indexnet', network='m2o', nonlinear=False, context=False),
    dict(type='a2u', num_groups=4),
    dict(type='sapa', similarity='inner'),
    dict(type='sapa'),
    dict(type='sapa', similarity='gated'),
    dict(type='dysample'),
    dict(type='dysample', style='pl', dyscope=True, groups=1),
    dict(type='fade'),
    dict(type='fade_lite'),
    dict(type='fade', kernel_source='encoder', fusion='none'),
    dict(type='fade', kernel_source='decoder', fusion='none'),
    dict(type='fade', kernel_generation='naive'),
    dict(type='fade', kernel_generation='semi-shift-h2l'),
    dict(type='fade', fusion='skip'),
]
STOCK = [  # pixel_shuffle is torch's, which has no gradient where the batch is empty
    dict(type='nearest'),
    dict(type='bilinear'),
    dict(type='deconv', kernel_size=3),
]
ONE_OF_A_KIND = [
    dict(type='indexnet'),
    dict(type='a2u', num_groups=4),
    dict(type='sapa', similarity='gated'),
    dict(type='dysample', dyscope=True),
]
every_upsampler = pytest.mark.parametrize(
    'cfg', OURS, ids=lambda cfg: '-'.join(map(str, cfg.values()))
)


def build(cfg, size=(1, 8, 7, 8)):
    torch.manual_seed(0)
    up = build_upsampler(cfg, 8, 8).eval()
    for p in up.parameters():
        nn.init.normal_(p, std=0.3)
    n, c, h, w = size
    return up, torch.randn(size), torch.randn(n, c, -(-h // 2), -(-w // 2))


@every_upsampler
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision_is_close(cfg, dtype):
    up, en, de = build(cfg)
    exact = up(en, de)
    out = up.to(dtype)(en.to(dtype), de.to(dtype))
    assert out.dtype == dtype
    torch.testing.assert_close(out.float(), exact, atol=0.3, rtol=0.05)


@every_upsampler
def test_autocast_keeps_the_dtype_of_de(cfg):
    up, en, de = build(cfg)
    exact = up(en, de)
    with torch.autocast('cpu', torch.bfloat16):
        out = up(en, de)
        assert up(en.bfloat16(), de.bfloat16()).dtype == torch.bfloat16
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, exact, atol=0.3, rtol=0.05)


@every_upsampler
def test_channels_last_computes_the_same(cfg):
    up, en, de = build(cfg, (2, 8, 7, 8))
    last = [x.to(memory_format=torch.channels_last) for x in (en, de)]
    torch.testing.assert_close(up(*last), up(en, de), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize('cfg', ONE_OF_A_KIND, ids=lambda cfg: cfg['type'])
def test_compiles_in_one_graph(cfg):
    up, en, de = build(cfg)
    compiled = torch.compile(up, fullgraph=True, backend='aot_eager')
    torch.testing.assert_close(compiled(en, de), up(en, de))


@every_upsampler
def test_exports_with_dynamic_sizes(cfg):
    up, en, de = build(cfg, (2, 8, 14, 12))
    sizes = {name: {0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC} for name in ('en', 'de')}
    program = export(up, (en, de), dynamic_shapes=sizes).module()
    for n, h, w in [(2, 14, 12), (3, 19, 10), (1, 21, 9)]:
        en, de = torch.randn(n, 8, h, w), torch.randn(n, 8, h // 2, w // 2)
        torch.testing.assert_close(program(en, de), up(en, de), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize('cfg', [*OURS, *STOCK], ids=str)
def test_an_empty_batch_stays_empty(cfg):
    up, en, de = build(cfg, (0, 8, 7, 8))
    en, de = en.requires_grad_(), de.requires_grad_()
    out = up.train()(en, de)
    out.sum().backward()
    assert out.shape == (0, 8, 7, 8)
    assert de.grad.shape == (0, 8, 4, 4)
    assert not any(p.grad.any() for p in up.parameters() if p.grad is not None)


@every_upsampler
def test_a_replica_computes_the_same(cfg):
    """As `nn.DataParallel` makes them: its weights are attributes, and no parameters."""
    up, en, de = build(cfg)
    copies = {module: module._replicate_for_data_parallel() for module in up.modules()}
    for module, copy in copies.items():
        for name, child in module.named_children():
            setattr(copy, name, copies[child])
        for name, p in module._parameters.items():
            setattr(copy, name, p if p is None else p.view_as(p))
    replica = copies[up]
    assert not list(replica.parameters())
    assert torch.equal(replica(en, de), up(en, de))
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
def test_a_host_leaves_it_its_own_start(cfg):
    """The host's ``init_cfg`` is Xavier on every ``Conv2d``, biases zero."""
    cfg = dict(cfg, num_groups=32) if cfg['type'] == 'a2u' else cfg
    neck = FPN([4, 8], 64, 2, upsample_cfg=cfg)
    for p in neck.parameters():
        nn.init.constant_(p, 7.0)
    neck.init_weights()
    expected = build_upsampler(cfg, 64, 64)
    for name, p in neck.upsamplers[0].named_parameters():
        start = expected.get_parameter(name)
        if p.numel() > 50:
            assert p.std().item() == pytest.approx(start.std().item(), rel=0.3), name
        else:
            assert p.max() <= 1, name
