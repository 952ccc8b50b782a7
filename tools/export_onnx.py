"""Export a segmentation model to ONNX, and compare it with PyTorch in results and speed.

The file's input is `image`, float32 (N, 3, h, w), BGR from 0 to 255 as OpenCV reads pictures:
normalisation is part of the model. Its output is `logits`, float32 (N, classes, h, w), at the
image's size; their argmax over the classes is the label map. N, h and w are dynamic.
"""

import argparse
import logging
import time
import warnings
from statistics import median

warnings.filterwarnings('ignore', message='pkg_resources is deprecated')
warnings.filterwarnings('ignore', category=FutureWarning, module='copyreg')

import numpy as np
import torch
from mmengine.config import DictAction

from fade_mm import engine
from fade_mm.engine import export

REPETITIONS = 9
CHATTERBOXES = ('torch.onnx', 'onnxscript', 'onnx_ir')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file, or mmseg::PATH')
    parser.add_argument('checkpoint', help='checkpoint of that config')
    parser.add_argument('out', help='the .onnx file to write; one that exists is replaced')
    parser.add_argument(
        '--shape',
        nargs=2,
        type=int,
        default=(512, 512),
        metavar=('H', 'W'),
        help='size of the largest image to compare at (default: 512 512)',
    )
    parser.add_argument(
        '--opset', type=int, default=export.OLDEST_OPSET, help='default: %(default)s'
    )
    parser.add_argument(
        '--tolerance',
        type=float,
        default=1e-4,
        help='largest difference of a logit with which the file is written (default: %(default)s)',
    )
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE')
    return parser.parse_args()


def check(args: argparse.Namespace) -> None:
    """Raise for what can be known to be wrong before anything is loaded."""
    export.check_onnx()
    export.check_onnx_path(args.out)
    engine.check_weights([args.checkpoint])
    if min(args.shape) < 64:
        raise engine.SetupError(f'--shape must be at least 64 64, got {args.shape}')
    if args.opset < export.OLDEST_OPSET:
        raise engine.SetupError(f'--opset must be at least {export.OLDEST_OPSET}')


def build_model(args: argparse.Namespace) -> torch.nn.Module:
    """The model with its weights, from pictures to logits."""
    cfg = engine.load_config(args.config, args.cfg_options)
    if cfg.get('default_scope') != 'mmseg':
        raise engine.SetupError(f'{args.config} is no config of a segmentation model')
    from mmseg.apis import init_model
    from mmseg.models import EncoderDecoder

    segmentor = init_model(cfg, device='cpu')
    if not isinstance(segmentor, EncoderDecoder):
        raise engine.SetupError(
            f'the model is a {type(segmentor).__name__}; only an EncoderDecoder can be exported'
        )
    engine.load_checkpoint(segmentor, args.checkpoint)
    return export.ExportedSegmentor(segmentor).eval()


def compare(model: torch.nn.Module, path: str, shape: tuple[int, int]) -> float:
    """Print a table of differences and times over image sizes; return the largest difference."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=['CPUExecutionProvider'])
    random = np.random.default_rng(0)
    h, w = shape
    print('image      max difference  PyTorch ms  ONNX Runtime ms')
    differences = []
    for size in ((h, w), (h - 1, w - 1), (h // 2 + 1, w), (h // 2 + 3, w // 2 + 6)):
        image = random.uniform(0, 255, (1, 3, *size)).astype(np.float32)
        runs = {
            'torch': lambda image=image: model(torch.from_numpy(image)).numpy(),
            'onnx': lambda image=image: session.run(None, {'image': image})[0],
        }
        results = {name: run() for name, run in runs.items()}
        times = {name: [] for name in runs}
        for _ in range(REPETITIONS):
            for name, run in runs.items():
                start = time.perf_counter()
                run()
                times[name].append(1000 * (time.perf_counter() - start))
        differences.append(float(np.abs(results['torch'] - results['onnx']).max()))
        print(
            f'{"x".join(map(str, size)):<10} {differences[-1]:<15.1e} '
            f'{median(times["torch"]):<11.1f} {median(times["onnx"]):.1f}'
        )
    return max(differences)


def main() -> None:
    args = parse_args()
    check(args)
    for name in CHATTERBOXES:
        logging.getLogger(name).setLevel(logging.ERROR)
    model = build_model(args)
    with export.replaced_when_done(args.out) as path, torch.no_grad():
        export.export_onnx(
            model,
            (torch.zeros(2, 3, 97, 129),),
            path,
            ({0: 'batch', 2: 'height', 3: 'width'},),
            input_names=['image'],
            output_names=['logits'],
            opset=args.opset,
        )
        difference = compare(model, path, tuple(args.shape))
        if not difference <= args.tolerance:
            raise engine.SetupError(
                f'ONNX Runtime differs from PyTorch by {difference:.1e}, more than '
                f'{args.tolerance:.0e}: {args.out} is not written'
            )
    print(f'written: {args.out}')


if __name__ == '__main__':
    engine.run_tool(main)
