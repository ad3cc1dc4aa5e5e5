"""Timings against a yardstick measured in the same rounds; none is part of the tests."""
