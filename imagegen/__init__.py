"""Typed asyncio client of the image service.

Everything a caller needs is here; the messages of answers come from the contract (`image.v1`, `task.v1`). A
name is loaded when it is first used: the command line has to set gRPC's log level before gRPC is imported.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from task.v1.image_pb2 import OutputRef

    from imagegen.client import Health, ImageClient
    from imagegen.errors import (
        DownloadFailed,
        ImageServiceError,
        InvalidRequest,
        NotFound,
        Refused,
        RequestIdReused,
        StillRunning,
        TaskFailed,
        Unavailable,
        Unreachable,
        Violation,
    )
    from imagegen.fields import Reference, RequestFields
    from imagegen.tasks import has_ended, result_of

__all__ = [
    "DownloadFailed",
    "Health",
    "ImageClient",
    "ImageServiceError",
    "InvalidRequest",
    "NotFound",
    "OutputRef",
    "Reference",
    "Refused",
    "RequestFields",
    "RequestIdReused",
    "StillRunning",
    "TaskFailed",
    "Unavailable",
    "Unreachable",
    "Violation",
    "has_ended",
    "result_of",
]

_MODULES = ("imagegen.client", "imagegen.errors", "imagegen.fields", "imagegen.tasks")


def __getattr__(name: str) -> object:
    if name in __all__:
        for module in map(import_module, _MODULES):
            if hasattr(module, name):
                return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
