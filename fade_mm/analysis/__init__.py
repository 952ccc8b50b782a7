"""What models cost: parameters and multiply-adds."""

from fade_mm import registry  # noqa: F401  (says what to install, if mmengine is missing)
