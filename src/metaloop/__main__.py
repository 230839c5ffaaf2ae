"""``python -m metaloop``: the same as the command ``metaloop``."""

import sys

from metaloop.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
