import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from task.v1 import attempt_pb2 as _attempt_pb2
from task.v1 import image_pb2 as _image_pb2
from task.v1 import task_error_pb2 as _task_error_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TaskState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TASK_STATE_UNSPECIFIED: _ClassVar[TaskState]
    TASK_STATE_PENDING: _ClassVar[TaskState]
    TASK_STATE_PROCESSING: _ClassVar[TaskState]
    TASK_STATE_COMPLETED: _ClassVar[TaskState]
    TASK_STATE_FAILED: _ClassVar[TaskState]
    TASK_STATE_CANCELLED: _ClassVar[TaskState]

class TaskType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TASK_TYPE_UNSPECIFIED: _ClassVar[TaskType]
    TASK_TYPE_IMAGE: _ClassVar[TaskType]
    TASK_TYPE_VIDEO: _ClassVar[TaskType]
    TASK_TYPE_TEXT: _ClassVar[TaskType]

class TaskPriority(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TASK_PRIORITY_UNSPECIFIED: _ClassVar[TaskPriority]
    TASK_PRIORITY_CRITICAL: _ClassVar[TaskPriority]
    TASK_PRIORITY_DEFAULT: _ClassVar[TaskPriority]
    TASK_PRIORITY_LOW: _ClassVar[TaskPriority]
TASK_STATE_UNSPECIFIED: TaskState
TASK_STATE_PENDING: TaskState
TASK_STATE_PROCESSING: TaskState
TASK_STATE_COMPLETED: TaskState
TASK_STATE_FAILED: TaskState
TASK_STATE_CANCELLED: TaskState
TASK_TYPE_UNSPECIFIED: TaskType
TASK_TYPE_IMAGE: TaskType
TASK_TYPE_VIDEO: TaskType
TASK_TYPE_TEXT: TaskType
TASK_PRIORITY_UNSPECIFIED: TaskPriority
TASK_PRIORITY_CRITICAL: TaskPriority
TASK_PRIORITY_DEFAULT: TaskPriority
TASK_PRIORITY_LOW: TaskPriority

class Task(_message.Message):
    __slots__ = ("task_id", "type", "state", "priority", "provider", "model", "user_id", "request_id", "prompt", "labels", "revision", "create_time", "start_time", "update_time", "end_time", "expire_time", "attempts", "progress", "cost", "error", "image", "video", "text", "cancel_requested")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    UPDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    COST_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    VIDEO_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    CANCEL_REQUESTED_FIELD_NUMBER: _ClassVar[int]
    task_id: str
    type: TaskType
    state: TaskState
    priority: TaskPriority
    provider: str
    model: str
    user_id: str
    request_id: str
    prompt: str
    labels: _containers.ScalarMap[str, str]
    revision: int
    create_time: _timestamp_pb2.Timestamp
    start_time: _timestamp_pb2.Timestamp
    update_time: _timestamp_pb2.Timestamp
    end_time: _timestamp_pb2.Timestamp
    expire_time: _timestamp_pb2.Timestamp
    attempts: _containers.RepeatedCompositeFieldContainer[_attempt_pb2.Attempt]
    progress: Progress
    cost: Cost
    error: _task_error_pb2.TaskError
    image: _image_pb2.ImageResult
    video: VideoResult
    text: TextResult
    cancel_requested: bool
    def __init__(self, task_id: _Optional[str] = ..., type: _Optional[_Union[TaskType, str]] = ..., state: _Optional[_Union[TaskState, str]] = ..., priority: _Optional[_Union[TaskPriority, str]] = ..., provider: _Optional[str] = ..., model: _Optional[str] = ..., user_id: _Optional[str] = ..., request_id: _Optional[str] = ..., prompt: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., revision: _Optional[int] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., update_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., end_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., attempts: _Optional[_Iterable[_Union[_attempt_pb2.Attempt, _Mapping]]] = ..., progress: _Optional[_Union[Progress, _Mapping]] = ..., cost: _Optional[_Union[Cost, _Mapping]] = ..., error: _Optional[_Union[_task_error_pb2.TaskError, _Mapping]] = ..., image: _Optional[_Union[_image_pb2.ImageResult, _Mapping]] = ..., video: _Optional[_Union[VideoResult, _Mapping]] = ..., text: _Optional[_Union[TextResult, _Mapping]] = ..., cancel_requested: _Optional[bool] = ...) -> None: ...

class TaskOptions(_message.Message):
    __slots__ = ("priority", "ttl", "labels", "max_paid_attempts")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    TTL_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    MAX_PAID_ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    priority: TaskPriority
    ttl: _duration_pb2.Duration
    labels: _containers.ScalarMap[str, str]
    max_paid_attempts: int
    def __init__(self, priority: _Optional[_Union[TaskPriority, str]] = ..., ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., labels: _Optional[_Mapping[str, str]] = ..., max_paid_attempts: _Optional[int] = ...) -> None: ...

class Progress(_message.Message):
    __slots__ = ("images_done", "images_wanted")
    IMAGES_DONE_FIELD_NUMBER: _ClassVar[int]
    IMAGES_WANTED_FIELD_NUMBER: _ClassVar[int]
    images_done: int
    images_wanted: int
    def __init__(self, images_done: _Optional[int] = ..., images_wanted: _Optional[int] = ...) -> None: ...

class Cost(_message.Message):
    __slots__ = ("currency", "amount_micros")
    CURRENCY_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_MICROS_FIELD_NUMBER: _ClassVar[int]
    currency: str
    amount_micros: int
    def __init__(self, currency: _Optional[str] = ..., amount_micros: _Optional[int] = ...) -> None: ...

class Usage(_message.Message):
    __slots__ = ("images", "paid_calls", "cost")
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    PAID_CALLS_FIELD_NUMBER: _ClassVar[int]
    COST_FIELD_NUMBER: _ClassVar[int]
    images: int
    paid_calls: int
    cost: Cost
    def __init__(self, images: _Optional[int] = ..., paid_calls: _Optional[int] = ..., cost: _Optional[_Union[Cost, _Mapping]] = ...) -> None: ...

class VideoResult(_message.Message):
    __slots__ = ("url", "url_expire_time", "width_px", "height_px", "duration", "mime_type", "size_bytes", "sha256")
    URL_FIELD_NUMBER: _ClassVar[int]
    URL_EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    WIDTH_PX_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_PX_FIELD_NUMBER: _ClassVar[int]
    DURATION_FIELD_NUMBER: _ClassVar[int]
    MIME_TYPE_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    url: str
    url_expire_time: _timestamp_pb2.Timestamp
    width_px: int
    height_px: int
    duration: _duration_pb2.Duration
    mime_type: str
    size_bytes: int
    sha256: str
    def __init__(self, url: _Optional[str] = ..., url_expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., width_px: _Optional[int] = ..., height_px: _Optional[int] = ..., duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., mime_type: _Optional[str] = ..., size_bytes: _Optional[int] = ..., sha256: _Optional[str] = ...) -> None: ...

class TextResult(_message.Message):
    __slots__ = ("text",)
    TEXT_FIELD_NUMBER: _ClassVar[int]
    text: str
    def __init__(self, text: _Optional[str] = ...) -> None: ...
