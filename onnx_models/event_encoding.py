"""Candidate events as bytes: a JSON line, or a Protobuf message after its length as a varint.

Both formats carry the same float32 values: features have four decimals, and such a decimal number
is read as the same float32 everywhere. The candidate of a post is encoded once, even if many
requests contain it.
"""

import json
import struct
from collections.abc import Callable

from onnx_models.features import NAMES, features
from onnx_models.home_requests import Event
from onnx_models.posts import Post
from workers.codec.generated.candidate_pb2 import Candidate, CandidateEvent

Encode = Callable[[Event], bytes]

FLOAT32S = struct.Struct(f"<{len(NAMES)}f")


class JsonEvents:
    """Events as JSON lines. Features are a list in the order of the feature set, or by name."""

    def __init__(self, surface: str, by_name: bool) -> None:
        self._surface = surface
        self._by_name = by_name
        self._candidates: dict[str, str] = {}

    def __call__(self, event: Event) -> bytes:
        """One line, with its line end."""
        request = event.request
        envelope = {
            "request_id": request.request_id,
            "surface": self._surface,
            "user_id": request.user_id,
            "requested_at": request.requested_at,
            "expected": len(request.posts),
        }
        candidates = ",".join(map(self._candidate, event.posts))
        return f'{_json(envelope)[:-1]},"candidates":[{candidates}]}}\n'.encode()

    def _candidate(self, post: Post) -> str:
        text = self._candidates.get(post.item_id)
        if text is None:
            values: object = features(post)
            if self._by_name:
                values = dict(zip(NAMES, features(post), strict=True))
            text = _json({"item_id": post.item_id, "source": post.community, "features": values})
            self._candidates[post.item_id] = text
        return text


class ProtobufEvents:
    """Events as length-delimited Protobuf. Features are packed float32, or by name."""

    def __init__(self, surface: str, by_name: bool) -> None:
        self._surface = surface
        self._by_name = by_name
        self._candidates: dict[str, Candidate] = {}

    def __call__(self, event: Event) -> bytes:
        """One message, after its length."""
        request = event.request
        message = CandidateEvent(
            request_id=request.request_id,
            surface=self._surface,
            user_id=request.user_id,
            requested_at=request.requested_at,
            expected=len(request.posts),
            candidates=map(self._candidate, event.posts),
        ).SerializeToString(deterministic=True)
        return varint(len(message)) + message

    def _candidate(self, post: Post) -> Candidate:
        candidate = self._candidates.get(post.item_id)
        if candidate is None:
            candidate = Candidate(item_id=post.item_id, source=post.community)
            if self._by_name:
                candidate.features_by_name.update(zip(NAMES, features(post), strict=True))
            else:
                candidate.features_f32 = FLOAT32S.pack(*features(post))
            self._candidates[post.item_id] = candidate
        return candidate


ENCODERS: dict[str, Callable[[str, bool], Encode]] = {
    "json": JsonEvents,
    "protobuf": ProtobufEvents,
}


def varint(number: int) -> bytes:
    """An unsigned base-128 varint, as Protobuf's writeDelimitedTo writes it before a message."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
