"""Plans of tiles: every pixel once, far enough from a cut, on the network's grid."""

from hypothesis import given
from hypothesis import strategies as st

from tfwsss_onnx.tiling import plan, round_up


@given(st.integers(1, 16), st.integers(4, 40), st.integers(0, 400), st.data())
def test_a_plan_covers_the_side_once(stride, cells, length_cells, data):
    overlap = stride * data.draw(st.integers(0, (cells - 1) // 2))
    tile, length = stride * cells, stride * (length_cells + 1)
    spans = plan(length, tile, overlap, stride)
    kept = [pixel for span in spans for pixel in range(span.keep_start, span.keep_stop)]
    assert kept == list(range(length))
    for span in spans:
        assert span.start % stride == span.stop % stride == 0
        assert 0 <= span.start <= span.keep_start < span.keep_stop <= span.stop <= length
        assert span.stop - span.start == min(tile, length)
        assert span.start == 0 or span.keep_start - span.start >= overlap
        assert span.stop == length or span.stop - span.keep_stop >= overlap


def test_round_up():
    assert [round_up(value, 8) for value in (0, 1, 8, 9)] == [0, 8, 8, 16]
