"""glibc's allocator, told to keep the large blocks that convolutional nets free and take again every step."""

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


def tune() -> bool:
    """Keep freed memory in the process (costs conv nets 25 to 50 % of their time otherwise); False where there is no glibc.

    Must come before the first large tensor. Harmless where another allocator is preloaded.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    keep = 2**30
    return all(
        mallopt(option, value) for option, value in ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, keep), (_M_TOP_PAD, keep // 16))
    )
