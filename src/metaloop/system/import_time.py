"""Time at which this process imported metaloop; `metaloop/__init__.py` imports this module first."""

import time

IMPORTED = time.monotonic()  # seconds; used if the system does not tell when the process began
