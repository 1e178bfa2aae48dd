"""The partition that Kafka's own partitioner gives a key: Java's default, and librdkafka's
`murmur2_random`.
"""

from struct import iter_unpack

from workers.codec.compiled import key_hash

_SEED = 0x9747B28C
_FACTOR = 0x5BD1E995
_32_BITS = 0xFFFFFFFF
_WITHOUT_SIGN = 0x7FFFFFFF


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a record with this key, in a topic with `partitions` partitions."""
    return (murmur2(key) & _WITHOUT_SIGN) % partitions


def murmur2_in_python(key: bytes) -> int:
    """Kafka's murmur2, as a number without a sign.

    Measured: 1 us for a key of 10 bytes, 2 us for 36, 13 us for 256.
    """
    # Local names are quicker than global ones.
    factor = _FACTOR
    bits = _32_BITS
    size = len(key)
    whole = size & ~3

    hashed = _SEED ^ size
    for (word,) in iter_unpack("<I", key[:whole]):
        mixed = (word * factor) & bits
        mixed = ((mixed ^ (mixed >> 24)) * factor) & bits
        hashed = ((hashed * factor) & bits) ^ mixed

    if whole < size:
        hashed ^= int.from_bytes(key[whole:], "little")
        hashed = (hashed * factor) & bits

    hashed = ((hashed ^ (hashed >> 13)) * factor) & bits
    return hashed ^ (hashed >> 15)


murmur2 = key_hash(murmur2_in_python)
"""The same, compiled if it can be."""
