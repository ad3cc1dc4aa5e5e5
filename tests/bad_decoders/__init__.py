"""Processes that take a picture apart as none should, each in a way of its own."""
