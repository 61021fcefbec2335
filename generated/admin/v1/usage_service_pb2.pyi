from task.v1 import task_pb2 as _task_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetUsageRequest(_message.Message):
    __slots__ = ("start_date", "end_date", "caller", "user_id", "page_size", "page_token")
    START_DATE_FIELD_NUMBER: _ClassVar[int]
    END_DATE_FIELD_NUMBER: _ClassVar[int]
    CALLER_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    start_date: str
    end_date: str
    caller: str
    user_id: str
    page_size: int
    page_token: str
    def __init__(self, start_date: _Optional[str] = ..., end_date: _Optional[str] = ..., caller: _Optional[str] = ..., user_id: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class GetUsageResponse(_message.Message):
    __slots__ = ("sums", "next_page_token")
    SUMS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    sums: _containers.RepeatedCompositeFieldContainer[UsageSum]
    next_page_token: str
    def __init__(self, sums: _Optional[_Iterable[_Union[UsageSum, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class UsageSum(_message.Message):
    __slots__ = ("date", "caller", "user_id", "provider", "model", "tasks", "images", "images_without_price", "paid_calls", "calls_in_doubt", "costs")
    DATE_FIELD_NUMBER: _ClassVar[int]
    CALLER_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    IMAGES_WITHOUT_PRICE_FIELD_NUMBER: _ClassVar[int]
    PAID_CALLS_FIELD_NUMBER: _ClassVar[int]
    CALLS_IN_DOUBT_FIELD_NUMBER: _ClassVar[int]
    COSTS_FIELD_NUMBER: _ClassVar[int]
    date: str
    caller: str
    user_id: str
    provider: str
    model: str
    tasks: int
    images: int
    images_without_price: int
    paid_calls: int
    calls_in_doubt: int
    costs: _containers.RepeatedCompositeFieldContainer[_task_pb2.Cost]
    def __init__(self, date: _Optional[str] = ..., caller: _Optional[str] = ..., user_id: _Optional[str] = ..., provider: _Optional[str] = ..., model: _Optional[str] = ..., tasks: _Optional[int] = ..., images: _Optional[int] = ..., images_without_price: _Optional[int] = ..., paid_calls: _Optional[int] = ..., calls_in_doubt: _Optional[int] = ..., costs: _Optional[_Iterable[_Union[_task_pb2.Cost, _Mapping]]] = ...) -> None: ...
