"""The old place of the necks in `fade_mm.hosts`."""
