"""Every error that irestore raises on purpose. Each message is one line that names the thing, the cause and the remedy.

IrestoreError            exit code 1
├── UsageError           2   an option or argument makes no sense
├── ModelError           3   the model cannot be had or used
│   ├── UnknownModelError    no such name, task or scale in the manifest
│   ├── ManifestError        the manifest itself is wrong
│   ├── DownloadError        the weights are not here and could not be fetched
│   │   └── UnreachableError   because there is no connection to the Hub
│   └── WeightsError         the file is here but is not what it should be
├── ImageError           1   a picture cannot be read or written
│   ├── ReadError
│   └── WriteError
├── RestoreError         1   the computation failed
│   ├── OutOfMemoryError     not even the smallest tile fits
│   └── NonFiniteError       the network gave NaN or infinity
└── RankError            1   another process of the same run has died
"""


class IrestoreError(Exception):
    """Any failure that irestore foresees; `str(error)` is fit to be shown to a user."""

    exit_code = 1


class UsageError(IrestoreError):
    """An option or argument makes no sense."""

    exit_code = 2


class ModelError(IrestoreError):
    """The model cannot be had or used."""

    exit_code = 3


class UnknownModelError(ModelError):
    """The manifest has no model of that name, task or scale."""


class ManifestError(ModelError):
    """A manifest is malformed or unsafe."""


class DownloadError(ModelError):
    """The weights are not on this machine and could not be fetched."""


class UnreachableError(DownloadError):
    """The weights are not on this machine and the Hub cannot be reached, or must not be (offline)."""


class WeightsError(ModelError):
    """A weights file is not what it should be."""


class ImageError(IrestoreError):
    """A picture cannot be read or written."""


class ReadError(ImageError):
    """A picture cannot be read."""


class WriteError(ImageError):
    """A picture cannot be written."""


class RestoreError(IrestoreError):
    """The computation failed."""


class OutOfMemoryError(RestoreError):
    """Not even the smallest tile fits into memory."""


class NonFiniteError(RestoreError):
    """The network gave NaN or infinity."""


class RankError(IrestoreError):
    """Another process of the same run has died."""
