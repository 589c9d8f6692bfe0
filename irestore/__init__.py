"""Restore photographs with Global-LN (i-LN) transformers: exact by tiles, in bounded memory."""

__version__ = "0.1.0"
