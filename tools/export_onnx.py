"""Export a model to ONNX, and compare it with PyTorch in results and speed.

Segmentation and matting models can be exported. The file's input is `image`, float32 (N, 3, h, w),
BGR from 0 to 255 as OpenCV reads pictures: normalisation is part of the model. N, h and w are
dynamic. The output of a segmentation model is `logits`, float32 (N, classes, h, w), at the image's
size; their argmax over the classes is the label map. A matting model has another input, `trimap`,
float32 (N, 1, h, w), 0, 128 and 255, and the output `alpha`, float32 (N, 1, h, w), 0 to 1; h and w
must be multiples of 16, as the file says of itself.
"""

import argparse
import time
import warnings
from statistics import median

warnings.filterwarnings('ignore', message='pkg_resources is deprecated')
warnings.filterwarnings('ignore', category=FutureWarning, module='copyreg')
warnings.filterwarnings('ignore', message='# The axis name')  # two inputs have one size

import numpy as np
import torch

from fade_mm import run
from fade_mm.hosts import host_of
from fade_mm.hosts.traced import Exported
from fade_mm.run import export

REPETITIONS = 9


def parse_args() -> argparse.Namespace:
    parser = run.ToolParser(__doc__, 'CONFIG CHECKPOINT model.onnx --shape 480 640')
    parser.add_argument(
        'config', help='file, name of one of ours, or LIBRARY::PATH for one of a library'
    )
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
        help='largest difference with which the file is written (default: %(default)s)',
    )
    parser.add_cfg_options()
    return parser.parse_args()


def check(args: argparse.Namespace) -> None:
    """Raise for what can be known to be wrong before anything is loaded."""
    export.check_onnx()
    export.check_onnx_path(args.out)
    run.check_weights([args.checkpoint])
    if min(args.shape) < 64:
        raise run.SetupError(f'--shape must be at least 64 64, got {args.shape}')
    if args.opset < export.OLDEST_OPSET:
        raise run.SetupError(f'--opset must be at least {export.OLDEST_OPSET}')


def load_model(args: argparse.Namespace) -> Exported:
    """The model with its weights, from pictures to predictions."""
    cfg = run.load_config(args.config, args.cfg_options)
    model = run.build_model(cfg)
    exported = host_of(cfg).exported(model)
    run.load_checkpoint(model, args.checkpoint)
    return exported


def compare(exported: Exported, path: str, shape: tuple[int, int]) -> float:
    """Print a table of differences and times over image sizes; return the largest difference."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=['CPUExecutionProvider'])
    h, w = shape
    print('image      max difference  PyTorch ms  ONNX Runtime ms')
    differences = []
    sizes = ((h, w), (h - 1, w - 1), (h // 2 + 1, w), (h // 2 + 3, w // 2 + 6))
    for size in dict.fromkeys(exported.fitting(x) for x in sizes):
        inputs = exported.random_inputs(size)
        tensors = [torch.from_numpy(x) for x in inputs.values()]
        calls = {
            'torch': lambda tensors=tensors: exported.module(*tensors).numpy(),
            'onnx': lambda inputs=inputs: session.run(None, inputs)[0],
        }
        results = {name: call() for name, call in calls.items()}
        times = {name: [] for name in calls}
        for _ in range(REPETITIONS):
            for name, call in calls.items():
                start = time.perf_counter()
                call()
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
    export.silence_exporter()
    exported = load_model(args)
    if exported.note:
        print(f'note: {exported.note}')
    with export.replaced_when_done(args.out) as path, torch.no_grad():
        export.export_model(exported, path, args.opset)
        difference = compare(exported, path, tuple(args.shape))
        if not difference <= args.tolerance:
            raise run.SetupError(
                f'ONNX Runtime differs from PyTorch by {difference:.1e}, more than '
                f'{args.tolerance:.0e}: {args.out} is not written'
            )
    print(f'written: {args.out}')


if __name__ == '__main__':
    run.run_tool(main)
