from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CandidateEvent(_message.Message):
    __slots__ = ("request_id", "surface", "user_id", "requested_at", "expected", "last", "candidates")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    SURFACE_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    REQUESTED_AT_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    surface: str
    user_id: str
    requested_at: int
    expected: int
    last: bool
    candidates: _containers.RepeatedCompositeFieldContainer[Candidate]
    def __init__(self, request_id: _Optional[str] = ..., surface: _Optional[str] = ..., user_id: _Optional[str] = ..., requested_at: _Optional[int] = ..., expected: _Optional[int] = ..., last: _Optional[bool] = ..., candidates: _Optional[_Iterable[_Union[Candidate, _Mapping]]] = ...) -> None: ...

class Candidate(_message.Message):
    __slots__ = ("item_id", "source", "features", "features_f32", "features_by_name")
    class FeaturesByNameEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    FEATURES_F32_FIELD_NUMBER: _ClassVar[int]
    FEATURES_BY_NAME_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    source: str
    features: _containers.RepeatedScalarFieldContainer[float]
    features_f32: bytes
    features_by_name: _containers.ScalarMap[str, float]
    def __init__(self, item_id: _Optional[str] = ..., source: _Optional[str] = ..., features: _Optional[_Iterable[float]] = ..., features_f32: _Optional[bytes] = ..., features_by_name: _Optional[_Mapping[str, float]] = ...) -> None: ...
