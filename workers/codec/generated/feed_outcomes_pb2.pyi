from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class FeedOutcomes(_message.Message):
    __slots__ = ("hour", "surface", "arm", "experiment", "weights", "models", "partition", "closed_until", "feeds", "deadline_feeds", "items", "seen", "takes", "others", "positions", "clusters")
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
    class Positions(_message.Message):
        __slots__ = ("seen", "takes")
        SEEN_FIELD_NUMBER: _ClassVar[int]
        TAKES_FIELD_NUMBER: _ClassVar[int]
        seen: _containers.RepeatedScalarFieldContainer[int]
        takes: _containers.RepeatedScalarFieldContainer[int]
        def __init__(self, seen: _Optional[_Iterable[int]] = ..., takes: _Optional[_Iterable[int]] = ...) -> None: ...
    class Clusters(_message.Message):
        __slots__ = ("cluster", "feeds", "deadline_feeds", "items", "seen", "takes", "others", "scores")
        class OthersEntry(_message.Message):
            __slots__ = ("key", "value")
            KEY_FIELD_NUMBER: _ClassVar[int]
            VALUE_FIELD_NUMBER: _ClassVar[int]
            key: str
            value: FeedOutcomes.Counts
            def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[FeedOutcomes.Counts, _Mapping]] = ...) -> None: ...
        class ScoresEntry(_message.Message):
            __slots__ = ("key", "value")
            KEY_FIELD_NUMBER: _ClassVar[int]
            VALUE_FIELD_NUMBER: _ClassVar[int]
            key: str
            value: FeedOutcomes.Scores
            def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[FeedOutcomes.Scores, _Mapping]] = ...) -> None: ...
        CLUSTER_FIELD_NUMBER: _ClassVar[int]
        FEEDS_FIELD_NUMBER: _ClassVar[int]
        DEADLINE_FEEDS_FIELD_NUMBER: _ClassVar[int]
        ITEMS_FIELD_NUMBER: _ClassVar[int]
        SEEN_FIELD_NUMBER: _ClassVar[int]
        TAKES_FIELD_NUMBER: _ClassVar[int]
        OTHERS_FIELD_NUMBER: _ClassVar[int]
        SCORES_FIELD_NUMBER: _ClassVar[int]
        cluster: _containers.RepeatedScalarFieldContainer[int]
        feeds: _containers.RepeatedScalarFieldContainer[int]
        deadline_feeds: _containers.RepeatedScalarFieldContainer[int]
        items: _containers.RepeatedScalarFieldContainer[int]
        seen: _containers.RepeatedScalarFieldContainer[int]
        takes: _containers.RepeatedScalarFieldContainer[int]
        others: _containers.MessageMap[str, FeedOutcomes.Counts]
        scores: _containers.MessageMap[str, FeedOutcomes.Scores]
        def __init__(self, cluster: _Optional[_Iterable[int]] = ..., feeds: _Optional[_Iterable[int]] = ..., deadline_feeds: _Optional[_Iterable[int]] = ..., items: _Optional[_Iterable[int]] = ..., seen: _Optional[_Iterable[int]] = ..., takes: _Optional[_Iterable[int]] = ..., others: _Optional[_Mapping[str, FeedOutcomes.Counts]] = ..., scores: _Optional[_Mapping[str, FeedOutcomes.Scores]] = ...) -> None: ...
    class Counts(_message.Message):
        __slots__ = ("values",)
        VALUES_FIELD_NUMBER: _ClassVar[int]
        values: _containers.RepeatedScalarFieldContainer[int]
        def __init__(self, values: _Optional[_Iterable[int]] = ...) -> None: ...
    class Scores(_message.Message):
        __slots__ = ("values",)
        VALUES_FIELD_NUMBER: _ClassVar[int]
        values: _containers.RepeatedScalarFieldContainer[float]
        def __init__(self, values: _Optional[_Iterable[float]] = ...) -> None: ...
    HOUR_FIELD_NUMBER: _ClassVar[int]
    SURFACE_FIELD_NUMBER: _ClassVar[int]
    ARM_FIELD_NUMBER: _ClassVar[int]
    EXPERIMENT_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    CLOSED_UNTIL_FIELD_NUMBER: _ClassVar[int]
    FEEDS_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_FEEDS_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    SEEN_FIELD_NUMBER: _ClassVar[int]
    TAKES_FIELD_NUMBER: _ClassVar[int]
    OTHERS_FIELD_NUMBER: _ClassVar[int]
    POSITIONS_FIELD_NUMBER: _ClassVar[int]
    CLUSTERS_FIELD_NUMBER: _ClassVar[int]
    hour: int
    surface: str
    arm: str
    experiment: str
    weights: str
    models: _containers.ScalarMap[str, int]
    partition: int
    closed_until: int
    feeds: int
    deadline_feeds: int
    items: int
    seen: int
    takes: int
    others: _containers.ScalarMap[str, int]
    positions: FeedOutcomes.Positions
    clusters: FeedOutcomes.Clusters
    def __init__(self, hour: _Optional[int] = ..., surface: _Optional[str] = ..., arm: _Optional[str] = ..., experiment: _Optional[str] = ..., weights: _Optional[str] = ..., models: _Optional[_Mapping[str, int]] = ..., partition: _Optional[int] = ..., closed_until: _Optional[int] = ..., feeds: _Optional[int] = ..., deadline_feeds: _Optional[int] = ..., items: _Optional[int] = ..., seen: _Optional[int] = ..., takes: _Optional[int] = ..., others: _Optional[_Mapping[str, int]] = ..., positions: _Optional[_Union[FeedOutcomes.Positions, _Mapping]] = ..., clusters: _Optional[_Union[FeedOutcomes.Clusters, _Mapping]] = ...) -> None: ...
