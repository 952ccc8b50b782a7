"""Train SegFormer MiT-B0 with bilinear upsampling and with FADE, and show the difference.

Generates a data set, trains both models on it with the same budget, prints their scores side by
side and writes a picture, all below the current folder, in data and work_dirs. What is already
there is not done again.
"""

import json
import subprocess
import sys
import warnings
from pathlib import Path

warnings.filterwarnings('ignore', message='pkg_resources is deprecated')

import cv2
import matplotlib.pyplot as plt
import numpy as np
from mmengine.config import Config
from rich.console import Console
from rich.table import Table

from fade_mm import run, shipped
from fade_mm.analysis.views import overlay, watch_upsamplers
from fade_mm.hosts import host_of

TOOLS = Path(__file__).resolve().parent
DATA = Path('data/shapes')
WORK_DIRS = Path('work_dirs')
PICTURE = WORK_DIRS / 'demo.png'
CONFIGS = {
    name: shipped.config_file(f'segformer/segformer_mit-b0_{name}_1xb8-400_shapes-128x128')
    for name in ('bilinear', 'fade')
}
SHOWN = 4  # validation images in the picture
ERROR = (255, 0, 60)


def call(*command: str | Path) -> None:
    """Run one of the tools, and stop where it stops."""
    done = subprocess.run([sys.executable, '-W', 'ignore', *map(str, command)])
    if done.returncode:
        sys.exit(done.returncode)


def train(config: Path) -> tuple[Path, dict[str, float]]:
    """Train a config unless that is done already.

    Returns:
        The last checkpoint, and the scores of the last evaluation.
    """
    work_dir = WORK_DIRS / config.stem
    checkpoint = work_dir / f'iter_{Config.fromfile(config).train_cfg.max_iters}.pth'
    if not (checkpoint.exists() and scores(work_dir)):
        call(TOOLS / 'train.py', config, '--work-dir', work_dir, '--resume')
    return checkpoint, scores(work_dir)


def scores(work_dir: Path) -> dict[str, float]:
    """The scores of the last evaluation that a work dir tells of."""
    lines = [
        line
        for log in sorted(work_dir.glob('*/vis_data/scalars.json'))
        for line in log.read_text().splitlines()
        if 'mBIoU' in line
    ]
    return json.loads(lines[-1]) if lines else {}


def draw(config: Path, checkpoint: Path, images: list[Path]) -> tuple[list, list]:
    """Predict label maps of some images.

    Returns:
        The label maps, and the gates of the last upsampler (none without FADE).
    """
    model = run.init_model(run.load_config(str(config)), str(checkpoint), 'cpu')
    labels, gates = [], []
    for image in images:
        with watch_upsamplers(model) as views:
            labels.append(host_of(model).predict(model, image).pred_sem_seg.data[0].numpy())
        gates += [view.gate for view in list(views.values())[-1:]]
    return labels, gates


def write_picture(checkpoints: dict[str, Path]) -> None:
    """Input, truth, both predictions with their errors, and FADE's gate, an image a row."""
    images = sorted((DATA / 'images/validation').glob('*.jpg'))[:SHOWN]
    truths = [
        cv2.imread(str(DATA / f'annotations/validation/{image.stem}.png'), cv2.IMREAD_UNCHANGED)
        for image in images
    ]
    bilinear, _ = draw(CONFIGS['bilinear'], checkpoints['bilinear'], images)
    fade, gates = draw(CONFIGS['fade'], checkpoints['fade'], images)
    palette = np.array(Config.fromfile(CONFIGS['fade']).metainfo.palette, np.uint8)

    def marked(labels: np.ndarray, truth: np.ndarray) -> np.ndarray:
        picture = palette[labels]
        picture[labels != truth] = ERROR
        return picture

    titles = ['input', 'truth', 'bilinear, errors in red', 'FADE, errors in red', "FADE's gate"]
    figure, axes = plt.subplots(len(images), len(titles), figsize=(11, 2.2 * len(images)))
    for row, image, truth, a, b, gate in zip(
        axes, images, truths, bilinear, fade, gates, strict=True
    ):
        picture = cv2.imread(str(image))
        for axis, shown in zip(
            row,
            [
                picture[..., ::-1],
                palette[truth],
                marked(a, truth),
                marked(b, truth),
                overlay(picture, gate)[..., ::-1],
            ],
            strict=True,
        ):
            axis.imshow(shown)
            axis.axis('off')
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=11)
    figure.tight_layout(pad=0.4)
    PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(PICTURE, dpi=90)


def main() -> None:
    run.ToolParser(__doc__, '').parse_args()
    if not DATA.exists():
        call(TOOLS / 'dataset_converters/make_shapes.py', DATA)
    results = {name: train(config) for name, config in CONFIGS.items()}
    if not PICTURE.exists():
        write_picture({name: checkpoint for name, (checkpoint, _) in results.items()})
    table = Table('SegFormer MiT-B0, upsampling', 'mIoU', 'mBIoU')
    for name, (_, score) in results.items():
        table.add_row(name, f'{score["mIoU"]:.2f}', f'{score["mBIoU"]:.2f}')
    Console().print(table)
    print(PICTURE)


if __name__ == '__main__':
    run.run_tool(main)
