"""Answers short."""

import sys

sys.stdout.write('{"media_type":"image/png","width":1,"height":1,"size":9}\nabc')
