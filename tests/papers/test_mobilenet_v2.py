"""Released weights of MobileNetV2, in OpenMMLab's backbone."""

import functools

import pytest
import torch

from fade_mm.errors import SetupError
from fade_mm.papers.mobilenet_v2 import convert_mobilenet_v2
from fade_mm.run import build_model, load_config
from tests.tools import UNET, config, run

NUCLEI = 'configs/mask_rcnn/mask-rcnn_mobilenet-v2_fpn_{}_1xb4-12e_nuclei-256x256.py'

BLOCKS = [(1, 16, 1), (6, 24, 2), (6, 32, 3), (6, 64, 4), (6, 96, 3), (6, 160, 3), (6, 320, 1)]


def norm(channels, generator):
    x = torch.nn.BatchNorm2d(channels)
    x.weight.data.normal_(1, 0.1, generator=generator)
    x.running_mean.normal_(0, 0.1, generator=generator)
    return x


class Block(torch.nn.Module):
    """One inverted residual block as torchvision nests it."""

    def __init__(self, before, after, expand, stride, generator):
        super().__init__()
        middle = before * expand
        nested, conv = torch.nn.Sequential, functools.partial(torch.nn.Conv2d, bias=False)
        layers = []
        if expand > 1:
            layers += [nested(conv(before, middle, 1), norm(middle, generator), torch.nn.ReLU6())]
        depthwise = conv(middle, middle, 3, stride, 1, groups=middle)
        layers += [nested(depthwise, norm(middle, generator), torch.nn.ReLU6())]
        layers += [conv(middle, after, 1), norm(after, generator)]
        self.conv = nested(*layers)
        self.adds = stride == 1 and before == after

    def forward(self, x):
        return x + self.conv(x) if self.adds else self.conv(x)


def torchvisions(generator):
    """MobileNetV2's features, written anew in torchvision's structure and names."""
    first = torch.nn.Conv2d(3, 32, 3, 2, 1, bias=False)
    layers = [torch.nn.Sequential(first, norm(32, generator), torch.nn.ReLU6())]
    before = 32
    for stage, (expand, after, blocks) in enumerate(BLOCKS):
        for i in range(blocks):
            stride = 2 if i == 0 and stage in (1, 2, 3, 5) else 1
            layers.append(Block(before, after, expand, stride, generator))
            before = after
    last = torch.nn.Conv2d(320, 1280, 1, bias=False)
    layers.append(torch.nn.Sequential(last, norm(1280, generator), torch.nn.ReLU6()))
    model = torch.nn.Module()
    model.features = torch.nn.Sequential(*layers)
    return model.eval()


@pytest.mark.parametrize(
    'more', [(), ('--config', config(NUCLEI, 'fade'))], ids=['by default', 'of a detector']
)
def test_torchvisions_weights_give_torchvisions_features(more, tmp_path):
    pytest.importorskip('mmdet' if more else 'mmseg')
    cfg = more[1] if more else config(UNET, 'fade')
    generator = torch.Generator().manual_seed(0)
    theirs = torchvisions(generator)
    weights = dict(theirs.state_dict()) | {'classifier.1.weight': torch.zeros(1000, 1280)}
    torch.save(weights, tmp_path / 'theirs.pth')
    files = tmp_path / 'theirs.pth', tmp_path / 'ours.pth'
    run('model_converters/mobilenet_v2', *files, *more)
    ours = build_model(load_config(str(cfg), {'model.backbone.out_indices': [1, 2, 4, 6]})).backbone
    ours.load_state_dict(torch.load(tmp_path / 'ours.pth')['state_dict'])
    ours.eval()
    picture = x = torch.randn(1, 3, 64, 96, generator=generator)
    with torch.no_grad():
        features = [x := layer(x) for layer in theirs.features]
        for found, i in zip(ours(picture), (3, 6, 13, 17), strict=True):
            torch.testing.assert_close(found, features[i])


def test_other_weights_are_refused():
    weights = torchvisions(torch.Generator()).state_dict()
    swapped = {name: weights[name] for name in sorted(weights)}
    with pytest.raises(SetupError, match='is this MobileNetV2'):
        convert_mobilenet_v2(swapped)
    del weights['features.3.conv.2.weight']
    with pytest.raises(SetupError, match='has 306 tensors, the file has 305 for it'):
        convert_mobilenet_v2(weights)
