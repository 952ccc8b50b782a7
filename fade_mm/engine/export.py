"""The old place of `fade_mm.run.export` and of `fade_mm.hosts.mmseg.export`."""

from fade_mm.hosts.mmseg.export import ExportedSegmentor
from fade_mm.run.export import (
    OLDEST_OPSET,
    check_onnx,
    check_onnx_path,
    export_onnx,
    replaced_when_done,
)

__all__ = [
    'OLDEST_OPSET',
    'ExportedSegmentor',
    'check_onnx',
    'check_onnx_path',
    'export_onnx',
    'replaced_when_done',
]
