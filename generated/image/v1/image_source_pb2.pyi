from task.v1 import image_pb2 as _image_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ImageSource(_message.Message):
    __slots__ = ("url", "data", "output")
    URL_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    url: str
    data: bytes
    output: _image_pb2.OutputRef
    def __init__(self, url: _Optional[str] = ..., data: _Optional[bytes] = ..., output: _Optional[_Union[_image_pb2.OutputRef, _Mapping]] = ...) -> None: ...
