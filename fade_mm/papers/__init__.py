"""What the papers published: their tables, and converters of their authors' weights."""
