# Boundary IoU beside mIoU.
val_evaluator = [
    dict(type='IoUMetric', iou_metrics=['mIoU']),
    dict(type='fade_mm.BoundaryIoUMetric'),
]
test_evaluator = val_evaluator
