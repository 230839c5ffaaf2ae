"""metaloop: Hydra-configured meta-learning experiments."""

import time

__version__ = "0.1.0"
IMPORTED = time.monotonic()  # when this process began, as far as it can know everywhere; see outer.start_up
