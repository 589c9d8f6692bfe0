"""`python -m irestore` is the `irestore` command."""

import sys

from irestore.cli import main

if __name__ == "__main__":
    sys.exit(main())
