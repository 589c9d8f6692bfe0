"""The tests run beside other programs, and also in the background of a script."""

import os
import signal

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command has it; before torch is loaded
# A run that a script starts in the background ignores Ctrl-C; here it does what it does on a terminal.
signal.signal(signal.SIGINT, signal.default_int_handler)
