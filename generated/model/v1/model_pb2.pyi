from image.v1 import image_service_pb2 as _image_service_pb2
from task.v1 import task_pb2 as _task_pb2
from task.v1 import task_error_pb2 as _task_error_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Model(_message.Message):
    __slots__ = ("id", "aliases", "type", "routes", "provider", "unavailable", "sizes", "limits", "qualities", "retired_date", "retired")
    ID_FIELD_NUMBER: _ClassVar[int]
    ALIASES_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    ROUTES_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    UNAVAILABLE_FIELD_NUMBER: _ClassVar[int]
    SIZES_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    QUALITIES_FIELD_NUMBER: _ClassVar[int]
    RETIRED_DATE_FIELD_NUMBER: _ClassVar[int]
    RETIRED_FIELD_NUMBER: _ClassVar[int]
    id: str
    aliases: _containers.RepeatedScalarFieldContainer[str]
    type: _task_pb2.TaskType
    routes: _containers.RepeatedCompositeFieldContainer[ModelRoute]
    provider: str
    unavailable: _task_error_pb2.TaskError
    sizes: SizeRules
    limits: ModelLimits
    qualities: _containers.RepeatedScalarFieldContainer[str]
    retired_date: str
    retired: bool
    def __init__(self, id: _Optional[str] = ..., aliases: _Optional[_Iterable[str]] = ..., type: _Optional[_Union[_task_pb2.TaskType, str]] = ..., routes: _Optional[_Iterable[_Union[ModelRoute, _Mapping]]] = ..., provider: _Optional[str] = ..., unavailable: _Optional[_Union[_task_error_pb2.TaskError, _Mapping]] = ..., sizes: _Optional[_Union[SizeRules, _Mapping]] = ..., limits: _Optional[_Union[ModelLimits, _Mapping]] = ..., qualities: _Optional[_Iterable[str]] = ..., retired_date: _Optional[str] = ..., retired: _Optional[bool] = ...) -> None: ...

class ModelRoute(_message.Message):
    __slots__ = ("provider", "available", "parameters", "price_per_image")
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    AVAILABLE_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    PRICE_PER_IMAGE_FIELD_NUMBER: _ClassVar[int]
    provider: str
    available: bool
    parameters: ModelParameters
    price_per_image: _task_pb2.Cost
    def __init__(self, provider: _Optional[str] = ..., available: _Optional[bool] = ..., parameters: _Optional[_Union[ModelParameters, _Mapping]] = ..., price_per_image: _Optional[_Union[_task_pb2.Cost, _Mapping]] = ...) -> None: ...

class ModelParameters(_message.Message):
    __slots__ = ("seed", "guidance_scale", "watermark", "groups", "output_formats")
    SEED_FIELD_NUMBER: _ClassVar[int]
    GUIDANCE_SCALE_FIELD_NUMBER: _ClassVar[int]
    WATERMARK_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FORMATS_FIELD_NUMBER: _ClassVar[int]
    seed: bool
    guidance_scale: bool
    watermark: bool
    groups: bool
    output_formats: _containers.RepeatedScalarFieldContainer[_image_service_pb2.OutputFormat]
    def __init__(self, seed: _Optional[bool] = ..., guidance_scale: _Optional[bool] = ..., watermark: _Optional[bool] = ..., groups: _Optional[bool] = ..., output_formats: _Optional[_Iterable[_Union[_image_service_pb2.OutputFormat, str]]] = ...) -> None: ...

class SizeRules(_message.Message):
    __slots__ = ("default_size", "labels", "sizes", "bounds")
    DEFAULT_SIZE_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    SIZES_FIELD_NUMBER: _ClassVar[int]
    BOUNDS_FIELD_NUMBER: _ClassVar[int]
    default_size: str
    labels: _containers.RepeatedCompositeFieldContainer[SizeLabel]
    sizes: _containers.RepeatedScalarFieldContainer[str]
    bounds: SizeBounds
    def __init__(self, default_size: _Optional[str] = ..., labels: _Optional[_Iterable[_Union[SizeLabel, _Mapping]]] = ..., sizes: _Optional[_Iterable[str]] = ..., bounds: _Optional[_Union[SizeBounds, _Mapping]] = ...) -> None: ...

class SizeLabel(_message.Message):
    __slots__ = ("label", "width_px", "height_px")
    LABEL_FIELD_NUMBER: _ClassVar[int]
    WIDTH_PX_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_PX_FIELD_NUMBER: _ClassVar[int]
    label: str
    width_px: int
    height_px: int
    def __init__(self, label: _Optional[str] = ..., width_px: _Optional[int] = ..., height_px: _Optional[int] = ...) -> None: ...

class SizeBounds(_message.Message):
    __slots__ = ("min_side_px", "max_side_px", "min_area_px", "max_area_px", "max_aspect_ratio")
    MIN_SIDE_PX_FIELD_NUMBER: _ClassVar[int]
    MAX_SIDE_PX_FIELD_NUMBER: _ClassVar[int]
    MIN_AREA_PX_FIELD_NUMBER: _ClassVar[int]
    MAX_AREA_PX_FIELD_NUMBER: _ClassVar[int]
    MAX_ASPECT_RATIO_FIELD_NUMBER: _ClassVar[int]
    min_side_px: int
    max_side_px: int
    min_area_px: int
    max_area_px: int
    max_aspect_ratio: float
    def __init__(self, min_side_px: _Optional[int] = ..., max_side_px: _Optional[int] = ..., min_area_px: _Optional[int] = ..., max_area_px: _Optional[int] = ..., max_aspect_ratio: _Optional[float] = ...) -> None: ...

class ModelLimits(_message.Message):
    __slots__ = ("min_reference_images", "max_reference_images", "max_images", "max_images_and_references")
    MIN_REFERENCE_IMAGES_FIELD_NUMBER: _ClassVar[int]
    MAX_REFERENCE_IMAGES_FIELD_NUMBER: _ClassVar[int]
    MAX_IMAGES_FIELD_NUMBER: _ClassVar[int]
    MAX_IMAGES_AND_REFERENCES_FIELD_NUMBER: _ClassVar[int]
    min_reference_images: int
    max_reference_images: int
    max_images: int
    max_images_and_references: int
    def __init__(self, min_reference_images: _Optional[int] = ..., max_reference_images: _Optional[int] = ..., max_images: _Optional[int] = ..., max_images_and_references: _Optional[int] = ...) -> None: ...
