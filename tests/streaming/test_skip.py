"""How far the damage reaches around an offset: found by reading, in few steps, and never past a
sound record.
"""

from hypothesis import given
from hypothesis import strategies as st

from workers.streaming.skip import first_other


@given(
    st.integers(0, 50), st.integers(1, 5000), st.integers(0, 5000), st.integers(0, 40), st.data()
)
def test_the_end_of_a_batch_is_found_in_few_steps(
    before: int, size: int, gap: int, after: int, data: st.DataObject
) -> None:
    """Another batch that cannot be read may come soon after: what is between them is not skipped."""
    first, end = before, before + size
    latest = end + gap + after
    offset = data.draw(st.integers(first, end - 1))
    tried: list[int] = []

    def is_of_it(place: int) -> bool:
        assert offset < place < latest
        tried.append(place)
        return place < end

    assert first_other(is_of_it, offset, latest) == end
    assert len(tried) <= 2 * size.bit_length() + 2
