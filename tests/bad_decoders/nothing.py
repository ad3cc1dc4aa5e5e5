"""Answers nothing."""

import sys

sys.stdout.write("")
