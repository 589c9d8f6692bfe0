"""Parts of a run for many machines, which need not talk to each other. Imports nothing heavy."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import PurePath


@dataclass(frozen=True)
class Shard:
    """Part `number`, from 1, of `count` parts. Which one a picture belongs to follows from its name alone."""

    number: int = 1
    count: int = 1

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def has(self, name: PurePath) -> bool:
        """Whether it is a picture of this shard; a picture met in a folder is named by its path below that folder."""
        digest = hashlib.sha256(os.fsencode(name.as_posix())).digest()
        return int.from_bytes(digest[:8]) % self.count == self.number - 1


WHOLE = Shard()
