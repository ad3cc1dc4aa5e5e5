"""Answers garbage."""

import sys

sys.stdout.write("not json\\n")
