"""Measurements of speed, memory, exactness, quality, formats and batches: each module prints a table or writes JSON."""
