"""Checks of our own, for promises that no ready-made linter keeps: `python -m ops.checks`."""
