"""A test run that a script starts in the background ignores Ctrl-C; here it does what it does on a terminal."""

import signal

signal.signal(signal.SIGINT, signal.default_int_handler)
