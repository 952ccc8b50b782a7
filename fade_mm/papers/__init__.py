"""What the papers published: their tables, and converters of their authors' weights."""

from fade_mm import registry  # noqa: F401  (says what to install, if mmengine is missing)
