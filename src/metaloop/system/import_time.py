"""When this process imported metaloop; `metaloop/__init__.py` imports this first of all."""

import time

IMPORTED = time.monotonic()  # seconds; the beginning of the process where the system does not tell its age
