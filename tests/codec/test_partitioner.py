"""The partition of a key, by the vectors of Kafka's own tests; the contract's golden keys:
tests/contract.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.codec.partitioner import murmur2, murmur2_in_python, partition_of


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_the_hash_is_kafkas(key: bytes, expected: int) -> None:
    assert murmur2(key) == expected % 2**32
    assert murmur2_in_python(key) == expected % 2**32


@given(st.binary(max_size=300))
def test_the_compiled_hash_is_that_of_python(key: bytes) -> None:
    assert murmur2(key) == murmur2_in_python(key)


@pytest.mark.parametrize("key", [b"", b"r-1", b"\xff" * 256])
def test_a_topic_of_one_partition_has_every_key_in_it(key: bytes) -> None:
    assert partition_of(key, 1) == 0
