from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RankedFeed(_message.Message):
    __slots__ = ("request_id", "surface", "user_id", "requested_at", "ranked_at", "completion", "refused", "arm", "weights_version", "objectives", "items", "removed", "truncated", "below_top_k", "diversity", "max_per_source", "skipped", "defaulted", "unlisted", "experiment")
    class Objective(_message.Message):
        __slots__ = ("name", "weight", "model_version")
        NAME_FIELD_NUMBER: _ClassVar[int]
        WEIGHT_FIELD_NUMBER: _ClassVar[int]
        MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
        name: str
        weight: float
        model_version: int
        def __init__(self, name: _Optional[str] = ..., weight: _Optional[float] = ..., model_version: _Optional[int] = ...) -> None: ...
    class Item(_message.Message):
        __slots__ = ("item_id", "position", "final_score", "scores", "source", "adjustments")
        ITEM_ID_FIELD_NUMBER: _ClassVar[int]
        POSITION_FIELD_NUMBER: _ClassVar[int]
        FINAL_SCORE_FIELD_NUMBER: _ClassVar[int]
        SCORES_FIELD_NUMBER: _ClassVar[int]
        SOURCE_FIELD_NUMBER: _ClassVar[int]
        ADJUSTMENTS_FIELD_NUMBER: _ClassVar[int]
        item_id: str
        position: int
        final_score: float
        scores: _containers.RepeatedScalarFieldContainer[float]
        source: str
        adjustments: _containers.RepeatedCompositeFieldContainer[RankedFeed.Adjustment]
        def __init__(self, item_id: _Optional[str] = ..., position: _Optional[int] = ..., final_score: _Optional[float] = ..., scores: _Optional[_Iterable[float]] = ..., source: _Optional[str] = ..., adjustments: _Optional[_Iterable[_Union[RankedFeed.Adjustment, _Mapping]]] = ...) -> None: ...
    class Adjustment(_message.Message):
        __slots__ = ("name", "value")
        NAME_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        name: str
        value: float
        def __init__(self, name: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    class Diversity(_message.Message):
        __slots__ = ("decay", "floor")
        DECAY_FIELD_NUMBER: _ClassVar[int]
        FLOOR_FIELD_NUMBER: _ClassVar[int]
        decay: float
        floor: float
        def __init__(self, decay: _Optional[float] = ..., floor: _Optional[float] = ...) -> None: ...
    class Removal(_message.Message):
        __slots__ = ("item_id", "reason", "source", "scores")
        ITEM_ID_FIELD_NUMBER: _ClassVar[int]
        REASON_FIELD_NUMBER: _ClassVar[int]
        SOURCE_FIELD_NUMBER: _ClassVar[int]
        SCORES_FIELD_NUMBER: _ClassVar[int]
        item_id: str
        reason: str
        source: str
        scores: _containers.RepeatedScalarFieldContainer[float]
        def __init__(self, item_id: _Optional[str] = ..., reason: _Optional[str] = ..., source: _Optional[str] = ..., scores: _Optional[_Iterable[float]] = ...) -> None: ...
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    SURFACE_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    REQUESTED_AT_FIELD_NUMBER: _ClassVar[int]
    RANKED_AT_FIELD_NUMBER: _ClassVar[int]
    COMPLETION_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    ARM_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_VERSION_FIELD_NUMBER: _ClassVar[int]
    OBJECTIVES_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    TRUNCATED_FIELD_NUMBER: _ClassVar[int]
    BELOW_TOP_K_FIELD_NUMBER: _ClassVar[int]
    DIVERSITY_FIELD_NUMBER: _ClassVar[int]
    MAX_PER_SOURCE_FIELD_NUMBER: _ClassVar[int]
    SKIPPED_FIELD_NUMBER: _ClassVar[int]
    DEFAULTED_FIELD_NUMBER: _ClassVar[int]
    UNLISTED_FIELD_NUMBER: _ClassVar[int]
    EXPERIMENT_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    surface: str
    user_id: str
    requested_at: int
    ranked_at: int
    completion: str
    refused: int
    arm: str
    weights_version: str
    objectives: _containers.RepeatedCompositeFieldContainer[RankedFeed.Objective]
    items: _containers.RepeatedCompositeFieldContainer[RankedFeed.Item]
    removed: _containers.RepeatedCompositeFieldContainer[RankedFeed.Removal]
    truncated: int
    below_top_k: int
    diversity: RankedFeed.Diversity
    max_per_source: int
    skipped: _containers.RepeatedScalarFieldContainer[str]
    defaulted: _containers.RepeatedScalarFieldContainer[str]
    unlisted: int
    experiment: str
    def __init__(self, request_id: _Optional[str] = ..., surface: _Optional[str] = ..., user_id: _Optional[str] = ..., requested_at: _Optional[int] = ..., ranked_at: _Optional[int] = ..., completion: _Optional[str] = ..., refused: _Optional[int] = ..., arm: _Optional[str] = ..., weights_version: _Optional[str] = ..., objectives: _Optional[_Iterable[_Union[RankedFeed.Objective, _Mapping]]] = ..., items: _Optional[_Iterable[_Union[RankedFeed.Item, _Mapping]]] = ..., removed: _Optional[_Iterable[_Union[RankedFeed.Removal, _Mapping]]] = ..., truncated: _Optional[int] = ..., below_top_k: _Optional[int] = ..., diversity: _Optional[_Union[RankedFeed.Diversity, _Mapping]] = ..., max_per_source: _Optional[int] = ..., skipped: _Optional[_Iterable[str]] = ..., defaulted: _Optional[_Iterable[str]] = ..., unlisted: _Optional[int] = ..., experiment: _Optional[str] = ...) -> None: ...
