import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from image.v1 import image_source_pb2 as _image_source_pb2
from task.v1 import image_pb2 as _image_pb2
from task.v1 import task_pb2 as _task_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class OutputFormat(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OUTPUT_FORMAT_UNSPECIFIED: _ClassVar[OutputFormat]
    OUTPUT_FORMAT_PNG: _ClassVar[OutputFormat]
    OUTPUT_FORMAT_JPEG: _ClassVar[OutputFormat]
    OUTPUT_FORMAT_WEBP: _ClassVar[OutputFormat]

class ResponseFormat(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RESPONSE_FORMAT_UNSPECIFIED: _ClassVar[ResponseFormat]
    RESPONSE_FORMAT_URL: _ClassVar[ResponseFormat]
    RESPONSE_FORMAT_BYTES: _ClassVar[ResponseFormat]

class HealthStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    HEALTH_STATUS_UNSPECIFIED: _ClassVar[HealthStatus]
    HEALTH_STATUS_SERVING: _ClassVar[HealthStatus]
    HEALTH_STATUS_NOT_SERVING: _ClassVar[HealthStatus]
OUTPUT_FORMAT_UNSPECIFIED: OutputFormat
OUTPUT_FORMAT_PNG: OutputFormat
OUTPUT_FORMAT_JPEG: OutputFormat
OUTPUT_FORMAT_WEBP: OutputFormat
RESPONSE_FORMAT_UNSPECIFIED: ResponseFormat
RESPONSE_FORMAT_URL: ResponseFormat
RESPONSE_FORMAT_BYTES: ResponseFormat
HEALTH_STATUS_UNSPECIFIED: HealthStatus
HEALTH_STATUS_SERVING: HealthStatus
HEALTH_STATUS_NOT_SERVING: HealthStatus

class GenerateImageRequest(_message.Message):
    __slots__ = ("prompt", "model", "size", "watermark", "seed", "guidance_scale", "reference_images", "quality", "output_format", "response_format", "provider", "negative_prompt", "request_id", "user_id", "options")
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    WATERMARK_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    GUIDANCE_SCALE_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_IMAGES_FIELD_NUMBER: _ClassVar[int]
    QUALITY_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FORMAT_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_FORMAT_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    NEGATIVE_PROMPT_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    prompt: str
    model: str
    size: str
    watermark: bool
    seed: int
    guidance_scale: float
    reference_images: _containers.RepeatedCompositeFieldContainer[_image_source_pb2.ImageSource]
    quality: str
    output_format: OutputFormat
    response_format: ResponseFormat
    provider: str
    negative_prompt: str
    request_id: str
    user_id: str
    options: _task_pb2.TaskOptions
    def __init__(self, prompt: _Optional[str] = ..., model: _Optional[str] = ..., size: _Optional[str] = ..., watermark: _Optional[bool] = ..., seed: _Optional[int] = ..., guidance_scale: _Optional[float] = ..., reference_images: _Optional[_Iterable[_Union[_image_source_pb2.ImageSource, _Mapping]]] = ..., quality: _Optional[str] = ..., output_format: _Optional[_Union[OutputFormat, str]] = ..., response_format: _Optional[_Union[ResponseFormat, str]] = ..., provider: _Optional[str] = ..., negative_prompt: _Optional[str] = ..., request_id: _Optional[str] = ..., user_id: _Optional[str] = ..., options: _Optional[_Union[_task_pb2.TaskOptions, _Mapping]] = ...) -> None: ...

class GenerateSequentialImagesRequest(_message.Message):
    __slots__ = ("prompt", "model", "size", "watermark", "seed", "guidance_scale", "reference_images", "quality", "output_format", "response_format", "provider", "negative_prompt", "request_id", "user_id", "options", "max_images")
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    WATERMARK_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    GUIDANCE_SCALE_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_IMAGES_FIELD_NUMBER: _ClassVar[int]
    QUALITY_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FORMAT_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_FORMAT_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    NEGATIVE_PROMPT_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    MAX_IMAGES_FIELD_NUMBER: _ClassVar[int]
    prompt: str
    model: str
    size: str
    watermark: bool
    seed: int
    guidance_scale: float
    reference_images: _containers.RepeatedCompositeFieldContainer[_image_source_pb2.ImageSource]
    quality: str
    output_format: OutputFormat
    response_format: ResponseFormat
    provider: str
    negative_prompt: str
    request_id: str
    user_id: str
    options: _task_pb2.TaskOptions
    max_images: int
    def __init__(self, prompt: _Optional[str] = ..., model: _Optional[str] = ..., size: _Optional[str] = ..., watermark: _Optional[bool] = ..., seed: _Optional[int] = ..., guidance_scale: _Optional[float] = ..., reference_images: _Optional[_Iterable[_Union[_image_source_pb2.ImageSource, _Mapping]]] = ..., quality: _Optional[str] = ..., output_format: _Optional[_Union[OutputFormat, str]] = ..., response_format: _Optional[_Union[ResponseFormat, str]] = ..., provider: _Optional[str] = ..., negative_prompt: _Optional[str] = ..., request_id: _Optional[str] = ..., user_id: _Optional[str] = ..., options: _Optional[_Union[_task_pb2.TaskOptions, _Mapping]] = ..., max_images: _Optional[int] = ...) -> None: ...

class GenerateImageResponse(_message.Message):
    __slots__ = ("task_id", "images", "failures", "model", "provider", "usage", "create_time", "data_omitted")
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    DATA_OMITTED_FIELD_NUMBER: _ClassVar[int]
    task_id: str
    images: _containers.RepeatedCompositeFieldContainer[_image_pb2.Image]
    failures: _containers.RepeatedCompositeFieldContainer[_image_pb2.ImageFailure]
    model: str
    provider: str
    usage: _task_pb2.Usage
    create_time: _timestamp_pb2.Timestamp
    data_omitted: bool
    def __init__(self, task_id: _Optional[str] = ..., images: _Optional[_Iterable[_Union[_image_pb2.Image, _Mapping]]] = ..., failures: _Optional[_Iterable[_Union[_image_pb2.ImageFailure, _Mapping]]] = ..., model: _Optional[str] = ..., provider: _Optional[str] = ..., usage: _Optional[_Union[_task_pb2.Usage, _Mapping]] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., data_omitted: _Optional[bool] = ...) -> None: ...

class GenerateImageAsyncResponse(_message.Message):
    __slots__ = ("task_id", "state", "provider", "model")
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    task_id: str
    state: _task_pb2.TaskState
    provider: str
    model: str
    def __init__(self, task_id: _Optional[str] = ..., state: _Optional[_Union[_task_pb2.TaskState, str]] = ..., provider: _Optional[str] = ..., model: _Optional[str] = ...) -> None: ...

class StreamSequentialImagesResponse(_message.Message):
    __slots__ = ("task_id", "image", "failure", "task", "progress")
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    task_id: str
    image: _image_pb2.Image
    failure: _image_pb2.ImageFailure
    task: _task_pb2.Task
    progress: _task_pb2.Progress
    def __init__(self, task_id: _Optional[str] = ..., image: _Optional[_Union[_image_pb2.Image, _Mapping]] = ..., failure: _Optional[_Union[_image_pb2.ImageFailure, _Mapping]] = ..., task: _Optional[_Union[_task_pb2.Task, _Mapping]] = ..., progress: _Optional[_Union[_task_pb2.Progress, _Mapping]] = ...) -> None: ...

class GetImageTaskRequest(_message.Message):
    __slots__ = ("task_id",)
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    task_id: str
    def __init__(self, task_id: _Optional[str] = ...) -> None: ...

class GetImageTaskResponse(_message.Message):
    __slots__ = ("task",)
    TASK_FIELD_NUMBER: _ClassVar[int]
    task: _task_pb2.Task
    def __init__(self, task: _Optional[_Union[_task_pb2.Task, _Mapping]] = ...) -> None: ...

class HealthCheckRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class HealthCheckResponse(_message.Message):
    __slots__ = ("status",)
    STATUS_FIELD_NUMBER: _ClassVar[int]
    status: HealthStatus
    def __init__(self, status: _Optional[_Union[HealthStatus, str]] = ...) -> None: ...
