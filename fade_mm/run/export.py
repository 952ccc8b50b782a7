"""Models as ONNX files."""

import importlib.util
import logging
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from fade_mm.errors import SetupError
from fade_mm.hosts.traced import Exported
from fade_mm.ops.decomposition import decompose

OLDEST_OPSET = 18  # torch's exporter writes no older one


def check_onnx() -> None:
    """Raise unless ONNX files can be written and run.

    Raises:
        SetupError: a package is missing.
    """
    missing = [x for x in ('onnx', 'onnxscript', 'onnxruntime') if not importlib.util.find_spec(x)]
    if missing:
        raise SetupError(f'ONNX needs {", ".join(missing)}; run: pip install {" ".join(missing)}')


def check_onnx_path(path: str | Path) -> None:
    """Raise unless an ONNX file can be written there.

    Raises:
        SetupError: the name has another ending, or there is no such folder.
    """
    path = Path(path)
    if path.suffix != '.onnx' or path.is_dir():
        raise SetupError(f'the output must be a file that ends in .onnx, got {path}')
    if not path.parent.is_dir():
        raise SetupError(f'there is no folder {path.parent} for {path.name}')


def export_onnx(
    model: nn.Module,
    args: tuple,
    path: str | Path,
    dynamic_shapes: Sequence,
    *,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    opset: int = OLDEST_OPSET,
    note: str = '',
) -> None:
    """Export a model to an ONNX file that consists of standard operators.

    Args:
        model: A model with any of our upsamplers, in evaluation mode.
        args: Arguments to trace it with. A dynamic size must be at least 2 in them, and better odd
            than not, since what only holds for multiples is then not taken for granted.
        path: File to write.
        dynamic_shapes: For each of ``args``, in their structure, the names of its dynamic sizes by
            dimension, e.g. ``({2: 'height', 3: 'width'},)``.
        input_names: Names of the inputs. Default: the exporter's.
        output_names: Names of the outputs. Default: the exporter's.
        opset: Version of the standard operators, at least 18. Default: 18.
        note: What the file says of itself, as its ``doc_string``. Default: nothing.

    Raises:
        SetupError: the opset is too old.
    """
    if opset < OLDEST_OPSET:
        raise SetupError(f'the opset must be at least {OLDEST_OPSET}, got {opset}')
    free = torch.utils._pytree.tree_map(lambda _: torch.export.Dim.DYNAMIC, dynamic_shapes)
    with torch.no_grad():
        program = decompose(torch.export.export(model, args, dynamic_shapes=free))
    onnx = torch.onnx.export(
        program,
        input_names=input_names,
        output_names=output_names,
        dynamic_shapes=dynamic_shapes,
        opset_version=opset,
        dynamo=True,
        verbose=False,
    )
    onnx.model.doc_string = note
    onnx.save(str(path), external_data=False)


def export_model(exported: Exported, path: str | Path, opset: int = OLDEST_OPSET) -> None:
    """Export a host's model to an ONNX file, for any batch, height and width.

    Args:
        exported: What the model's host makes of it.
        path: File to write.
        opset: Version of the standard operators, at least 18. Default: 18.

    Raises:
        SetupError: the opset is too old.
    """
    size = exported.fitting((97, 129))
    export_onnx(
        exported.trace() if exported.trace else exported.module,
        tuple(torch.zeros(2, channels, *size) for channels in exported.inputs.values()),
        path,
        ({0: 'batch', 2: 'height', 3: 'width'},) * len(exported.inputs),
        input_names=list(exported.inputs),
        output_names=[exported.output],
        opset=opset,
        note=exported.note,
    )


def silence_exporter() -> None:
    """Keep the exporter's own reports, which nobody can act on, from the screen; for tools."""
    for name in ('torch.onnx', 'onnxscript', 'onnx_ir'):
        logging.getLogger(name).setLevel(logging.ERROR)


@contextmanager
def replaced_when_done(path: str | Path) -> Iterator[str]:
    """A temporary path beside ``path`` that takes its place unless the block raises."""
    with tempfile.TemporaryDirectory(dir=Path(path).parent, prefix='.onnx-') as folder:
        temporary = os.path.join(folder, Path(path).name)
        yield temporary
        os.replace(temporary, path)
