"""Answers too_much."""

import sys

sys.stdout.write('{"media_type":"image/png","width":1,"height":1,"size":99999999}\n' + "x" * 1_000_000)
