"""Make model-index.yml and the metafile.yml of each folder of configs, which mim reads.

The figures are those that are published (fade_mm/papers/tables.yml) and those of our runs
(docs/results.yml); of each it is said which. It writes into the checkout.
"""

import argparse
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from statistics import mean

warnings.filterwarnings('ignore', message='pkg_resources is deprecated')

import yaml

from fade_mm import run
from fade_mm.papers import tables
from fade_mm.run import result_tables, results

ROOT = Path(__file__).resolve().parents[1]
INDEX = ROOT / 'model-index.yml'
COMMAND = 'tools/make_metafiles.py'
HEADER = f'# Made by {COMMAND}; what is changed here by hand is lost.\n'
NO_MODELS = ('_base_', 'own_data')  # parts of configs, and configs to copy
DATA = {  # by the last part of a config's name
    'ade20k': 'ADE20K',
    'bccd': 'BCCD',
    'camvid': 'CamVid',
    'coco': 'COCO',
    'composition-1k': 'Composition-1K',
    'matting': 'matting',
    'nuclei': 'nuclei',
    'nyu': 'NYU Depth v2',
    'nyu37': 'NYU Depth v2, 37 classes',
    'shapes': 'shapes',
}
TASKS = {  # by what evaluations call their scores: what metafiles call them
    'Semantic Segmentation': {'mIoU': 'mIoU', 'mBIoU': 'mBIoU'},
    'Object Detection': {'coco/bbox_mAP': 'box AP'},
    'Instance Segmentation': {'coco/segm_mAP': 'mask AP'},
    'Panoptic Segmentation': {
        f'coco_panoptic/{key}': key.replace('_', '-')
        for key in ('PQ', 'PQ_th', 'PQ_st', 'SQ', 'RQ')
    },
    'Image Matting': {key: key for key in ('SAD', 'MSE', 'Grad', 'Conn')},
    'Depth Estimation': {
        key: key for key in ('d1', 'd2', 'd3', 'abs_rel', 'sq_rel', 'rmse', 'rmse_log', 'log10')
    },
}


def parse_args() -> argparse.Namespace:
    parser = run.ToolParser(__doc__, '--check')
    parser.add_argument('--check', action='store_true', help='write nothing, fail if they differ')
    return parser.parse_args()


def data_of(stem: str) -> str:
    """The data that a config trains on, by the end of its name: ``..._camvid-256x256``."""
    name = re.sub(r'-\d+x\d+$', '', stem.rpartition('_')[2])
    if name not in DATA:
        raise run.SetupError(f'{COMMAND} has no name in DATA for {name}, of the config {stem}')
    return DATA[name]


def entries(data: str, scores: dict[str, float], origin: str) -> Iterator[dict]:
    """What a model scores, an entry a task."""
    for task, names in TASKS.items():
        metrics = {name: scores[key] for key, name in names.items() if key in scores}
        if metrics:
            yield {'Task': task, 'Dataset': data, 'Metrics': metrics, 'Origin': origin}


def published() -> Iterator[tuple[str, str, list[dict]]]:
    """Configs of the papers' rows, their upsamplers, and what is printed of them."""
    for row in tables.read_rows():
        if row.config and '::' not in row.config:
            config = Path(row.config).relative_to(ROOT).as_posix()
            scores = {row.metric_keys[name]: float(x) for name, x in row.published_metrics.items()}
            origin = f'published: {row.source}'
            yield config, row.upsampler, list(entries(data_of(row.stem), scores, origin))


def measured() -> Iterator[tuple[str, str, list[dict]]]:
    """Configs of our runs, their upsamplers, and what they score: means over the seeds."""
    groups = {}
    for entry in results.read_runs(ROOT / 'docs/results.yml'):
        changed = ', '.join(f'{name}={x}' for name, x in entry['options'].items())
        key = entry['config'], entry['budget'], changed, entry['data']
        groups.setdefault(key, []).append(entry)
    for (config, budget, changed, data), runs in groups.items():
        keys = set.intersection(*(set(x['scores']) for x in runs))
        means = {key: mean(result_tables.score(x, key) for x in runs) for key in keys}
        scores = {key: float(f'{x:.4g}') for key, x in means.items()}
        seeds = ', '.join('?' if x['seed'] is None else str(x['seed']) for x in runs)
        seeds = f'mean of seeds {seeds}' if len(runs) > 1 else f'seed {seeds}'
        origin = ', '.join(filter(None, [f'measured: {budget}', seeds, changed]))
        yield config, runs[0]['upsampler'], list(entries(data, scores, origin))


def metafiles() -> dict[Path, str]:
    """The text of every file."""
    collections = yaml.safe_load(tables.DATA.read_text())['collections']
    figures = {}
    for config, upsampler, found in [*published(), *measured()]:
        figures.setdefault(config, (upsampler, []))[1].extend(found)
    folders = sorted({path.parent for path in ROOT.glob('configs/*/*.py')})
    made = {}
    for folder in (x for x in folders if x.name not in NO_MODELS):
        if folder.name not in collections:
            raise run.SetupError(f'{tables.DATA} has no collection for configs/{folder.name}')
        known = collections[folder.name]
        name, collection = known['name'], {'Name': known['name']}
        if 'paper' in known:
            collection['Paper'] = {'Title': known['paper'], 'URL': known['url']}
        models = []
        for path in sorted(folder.glob('*.py')):
            config = path.relative_to(ROOT).as_posix()
            upsampler, found = figures.get(config, (None, []))
            about = {'Training Data': data_of(path.stem)}
            if upsampler:
                about['Upsampler'] = upsampler
            model = {'Name': path.stem, 'In Collection': name, 'Config': config, 'Metadata': about}
            if found:
                model['Results'] = found
            models.append(model)
        made[folder / 'metafile.yml'] = dict(Collections=[collection], Models=models)
    names = [path.relative_to(ROOT).as_posix() for path in made]
    made[INDEX] = dict(Import=names)
    return {path: HEADER + results.dump(content) for path, content in made.items()}


def main() -> None:
    args = parse_args()
    texts = metafiles()
    there = [*ROOT.glob('configs/*/metafile.yml'), INDEX]
    left = [path for path in there if path not in texts]
    stale = [path for path, text in texts.items() if not path.is_file() or text != path.read_text()]
    if args.check and (stale or left):
        names = ', '.join(path.relative_to(ROOT).as_posix() for path in [*stale, *left])
        raise run.SetupError(f'{names}: not what the figures give; run {COMMAND}')
    for path in left:
        path.unlink()
    for path in stale:
        results.write(path, texts[path])
        print(f'written: {path.relative_to(ROOT)}')


if __name__ == '__main__':
    run.run_tool(main)
