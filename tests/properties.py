"""Hypothesis; where it is not installed, the tests that need it are skipped."""

try:
    from hypothesis import given, settings
    from hypothesis import strategies as st
except ImportError:
    from unittest.mock import MagicMock

    import pytest

    st = MagicMock()

    def given(*_):
        @pytest.mark.skip('Hypothesis is not installed')
        def skipped():
            pass

        return lambda test: skipped

    def settings(**_):
        return lambda test: test


__all__ = ['given', 'settings', 'st']
