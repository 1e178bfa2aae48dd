from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RequestOutcomes(_message.Message):
    __slots__ = ("request_id", "surface", "user_id", "arm", "experiment", "weights", "models", "completion", "published_at", "closed_at", "items", "seen", "takes", "others", "outcomes", "unlisted")
    class ModelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class OthersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class ItemOutcome(_message.Message):
        __slots__ = ("item_id", "position", "outcomes")
        ITEM_ID_FIELD_NUMBER: _ClassVar[int]
        POSITION_FIELD_NUMBER: _ClassVar[int]
        OUTCOMES_FIELD_NUMBER: _ClassVar[int]
        item_id: str
        position: int
        outcomes: _containers.RepeatedScalarFieldContainer[str]
        def __init__(self, item_id: _Optional[str] = ..., position: _Optional[int] = ..., outcomes: _Optional[_Iterable[str]] = ...) -> None: ...
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    SURFACE_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    ARM_FIELD_NUMBER: _ClassVar[int]
    EXPERIMENT_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    COMPLETION_FIELD_NUMBER: _ClassVar[int]
    PUBLISHED_AT_FIELD_NUMBER: _ClassVar[int]
    CLOSED_AT_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    SEEN_FIELD_NUMBER: _ClassVar[int]
    TAKES_FIELD_NUMBER: _ClassVar[int]
    OTHERS_FIELD_NUMBER: _ClassVar[int]
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    UNLISTED_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    surface: str
    user_id: str
    arm: str
    experiment: str
    weights: str
    models: _containers.ScalarMap[str, int]
    completion: str
    published_at: int
    closed_at: int
    items: int
    seen: int
    takes: int
    others: _containers.ScalarMap[str, int]
    outcomes: _containers.RepeatedCompositeFieldContainer[RequestOutcomes.ItemOutcome]
    unlisted: int
    def __init__(self, request_id: _Optional[str] = ..., surface: _Optional[str] = ..., user_id: _Optional[str] = ..., arm: _Optional[str] = ..., experiment: _Optional[str] = ..., weights: _Optional[str] = ..., models: _Optional[_Mapping[str, int]] = ..., completion: _Optional[str] = ..., published_at: _Optional[int] = ..., closed_at: _Optional[int] = ..., items: _Optional[int] = ..., seen: _Optional[int] = ..., takes: _Optional[int] = ..., others: _Optional[_Mapping[str, int]] = ..., outcomes: _Optional[_Iterable[_Union[RequestOutcomes.ItemOutcome, _Mapping]]] = ..., unlisted: _Optional[int] = ...) -> None: ...
