"""Answers other_type."""

import sys

sys.stdout.write('{"media_type":"text/html","width":1,"height":1,"size":3}\nabc')
