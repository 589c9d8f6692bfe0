"""Moved to irestore.runner; this name is the public function's."""

from irestore.runner import Cost, Settings, choose_tile, cost, pad, restore  # noqa: F401
