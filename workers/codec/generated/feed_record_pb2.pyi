from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class FeedRecord(_message.Message):
    __slots__ = ("request_id", "surface", "user_id", "arm", "experiment", "weights", "models", "completion", "window_s", "item_ids", "score_sums", "first_position")
    class ModelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class ScoreSumsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    SURFACE_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    ARM_FIELD_NUMBER: _ClassVar[int]
    EXPERIMENT_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    COMPLETION_FIELD_NUMBER: _ClassVar[int]
    WINDOW_S_FIELD_NUMBER: _ClassVar[int]
    ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    SCORE_SUMS_FIELD_NUMBER: _ClassVar[int]
    FIRST_POSITION_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    surface: str
    user_id: str
    arm: str
    experiment: str
    weights: str
    models: _containers.ScalarMap[str, int]
    completion: str
    window_s: int
    item_ids: _containers.RepeatedScalarFieldContainer[str]
    score_sums: _containers.ScalarMap[str, float]
    first_position: int
    def __init__(self, request_id: _Optional[str] = ..., surface: _Optional[str] = ..., user_id: _Optional[str] = ..., arm: _Optional[str] = ..., experiment: _Optional[str] = ..., weights: _Optional[str] = ..., models: _Optional[_Mapping[str, int]] = ..., completion: _Optional[str] = ..., window_s: _Optional[int] = ..., item_ids: _Optional[_Iterable[str]] = ..., score_sums: _Optional[_Mapping[str, float]] = ..., first_position: _Optional[int] = ...) -> None: ...
