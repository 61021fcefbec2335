import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from task.v1 import task_error_pb2 as _task_error_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Image(_message.Message):
    __slots__ = ("index", "url", "url_expire_time", "data", "width_px", "height_px", "mime_type", "size_bytes", "sha256", "seed")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    URL_FIELD_NUMBER: _ClassVar[int]
    URL_EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    WIDTH_PX_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_PX_FIELD_NUMBER: _ClassVar[int]
    MIME_TYPE_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    index: int
    url: str
    url_expire_time: _timestamp_pb2.Timestamp
    data: bytes
    width_px: int
    height_px: int
    mime_type: str
    size_bytes: int
    sha256: str
    seed: int
    def __init__(self, index: _Optional[int] = ..., url: _Optional[str] = ..., url_expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., data: _Optional[bytes] = ..., width_px: _Optional[int] = ..., height_px: _Optional[int] = ..., mime_type: _Optional[str] = ..., size_bytes: _Optional[int] = ..., sha256: _Optional[str] = ..., seed: _Optional[int] = ...) -> None: ...

class ImageFailure(_message.Message):
    __slots__ = ("index", "error")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    index: int
    error: _task_error_pb2.TaskError
    def __init__(self, index: _Optional[int] = ..., error: _Optional[_Union[_task_error_pb2.TaskError, _Mapping]] = ...) -> None: ...

class ImageResult(_message.Message):
    __slots__ = ("images", "failures")
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    images: _containers.RepeatedCompositeFieldContainer[Image]
    failures: _containers.RepeatedCompositeFieldContainer[ImageFailure]
    def __init__(self, images: _Optional[_Iterable[_Union[Image, _Mapping]]] = ..., failures: _Optional[_Iterable[_Union[ImageFailure, _Mapping]]] = ...) -> None: ...

class OutputRef(_message.Message):
    __slots__ = ("task_id", "index")
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    task_id: str
    index: int
    def __init__(self, task_id: _Optional[str] = ..., index: _Optional[int] = ...) -> None: ...
