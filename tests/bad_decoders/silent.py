"""Says nothing, and does nothing."""

import os
import time
from pathlib import Path

Path(os.environ["LANG"]).write_text(str(os.getpid()))
time.sleep(600)
