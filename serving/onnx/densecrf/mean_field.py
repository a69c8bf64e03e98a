"""Mean-field steps of several label problems on one photo, eight channels at a time in the processor's vectors.

A step is one pass over the pixels: messages are sliced from both lattices, the softmax follows, and the new marginals are
splatted for the next step before anything leaves the cache.
"""

import math

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, models, register_model

from .compiled import compiled

LANES = 8
GAUSSIAN, BILATERAL = 3, 6  # corners of a simplex for positions, and with colours; known when compiling, loops over them are unrolled
ABSENT = np.float32(-1e30)  # log score of a lane that holds no label
# Softmax terms below exp(-60) are 0: no sum in float32 notices, and products of such numbers would be denormal, which
# processors compute a hundred times slower.
FLOOR = -60.0
HALF, ONE = np.float32(0.5), np.float32(1)

_FLOATS = ir.VectorType(ir.FloatType(), LANES)
_INTEGERS = ir.VectorType(ir.IntType(32), LANES)


# ---------------------------------------------------------------------------------- eight float32 numbers as one value


class _Lanes(types.Type):
    def __init__(self):
        super().__init__(name=f"float32x{LANES}")


_lanes = _Lanes()


@register_model(_Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager, type_):
        super().__init__(manager, type_, _FLOATS)


def _floats(value: float) -> ir.Constant:
    return ir.Constant(_FLOATS, [float(np.float32(value))] * LANES)


def _integers(value: int) -> ir.Constant:
    return ir.Constant(_INTEGERS, [value] * LANES)


def _address(context, builder, array_type, array, index):
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), _FLOATS.as_pointer())


@intrinsic
def _load(typing, array, index):
    """Eight numbers of a flat float32 array from `index` on."""

    def generate(context, builder, signature, values):
        loaded = builder.load(_address(context, builder, signature.args[0], *values))
        loaded.align = 4
        return loaded

    return _lanes(array, types.intp), generate


@intrinsic
def _store(typing, array, index, lanes):
    """Write eight numbers to a flat float32 array from `index` on."""

    def generate(context, builder, signature, values):
        builder.store(values[2], _address(context, builder, signature.args[0], *values[:2])).align = 4
        return context.get_dummy_value()

    return types.void(array, types.intp, _lanes), generate


@intrinsic
def _fill(typing, number):
    """One number in all lanes."""

    def generate(context, builder, signature, values):
        undefined = ir.Constant(_FLOATS, ir.Undefined)
        first = builder.insert_element(undefined, values[0], ir.Constant(ir.IntType(32), 0))
        return builder.shuffle_vector(first, undefined, _integers(0))

    return _lanes(types.float32), generate


@intrinsic
def _add(typing, one, two):
    return _lanes(_lanes, _lanes), lambda context, builder, signature, values: builder.fadd(*values)


@intrinsic
def _subtract(typing, one, two):
    return _lanes(_lanes, _lanes), lambda context, builder, signature, values: builder.fsub(*values)


@intrinsic
def _multiply(typing, one, two):
    return _lanes(_lanes, _lanes), lambda context, builder, signature, values: builder.fmul(*values)


@intrinsic
def _divide(typing, one, two):
    return _lanes(_lanes, _lanes), lambda context, builder, signature, values: builder.fdiv(*values)


@intrinsic
def _larger(typing, one, two):
    def generate(context, builder, signature, values):
        return builder.select(builder.fcmp_ordered(">", *values), *values)

    return _lanes(_lanes, _lanes), generate


def _exchange(distance: int):
    @intrinsic
    def exchanged(typing, lanes):
        """Every lane gets the number of the lane whose index differs in one bit."""

        def generate(context, builder, signature, values):
            order = ir.Constant(_INTEGERS, [lane ^ distance for lane in range(LANES)])
            return builder.shuffle_vector(values[0], values[0], order)

        return _lanes(_lanes), generate

    return exchanged


_exchange_1, _exchange_2, _exchange_4 = _exchange(1), _exchange(2), _exchange(4)


@intrinsic
def _exp(typing, lanes):
    """exp(x) for x <= 0, relative error below 2e-7; 0 below FLOOR.

    x = n log 2 + r with |r| <= log(2) / 2, 2**n through the exponent bits, exp(r) by its series to r**7.
    """

    def generate(context, builder, signature, values):
        kept = builder.fcmp_ordered(">", values[0], _floats(FLOOR))
        x = builder.select(kept, values[0], _floats(FLOOR))
        n = builder.fptosi(builder.fsub(builder.fmul(x, _floats(1 / math.log(2))), _floats(0.5)), _INTEGERS)
        power = builder.bitcast(builder.shl(builder.add(n, _integers(127)), _integers(23)), _FLOATS)
        n = builder.sitofp(n, _FLOATS)
        high = 355 / 512  # log 2 in few bits, so that its multiples are exact
        r = builder.fsub(x, builder.fmul(n, _floats(high)))
        r = builder.fsub(r, builder.fmul(n, _floats(math.log(2) - high)))
        series = _floats(1 / math.factorial(7))
        for order in range(6, -1, -1):
            series = builder.fadd(builder.fmul(series, r), _floats(1 / math.factorial(order)))
        return builder.select(kept, builder.fmul(series, power), _floats(0))

    return _lanes(_lanes), generate


# ------------------------------------------------------------------------------------------------------------ inference


@compiled
def _blur(value, spare, neighbours, blocks):
    row = blocks * LANES
    half = _fill(HALF)
    for axis in range(neighbours.shape[0]):
        for corner in range(neighbours.shape[1]):
            one, two = neighbours[axis, corner, 0] * row, neighbours[axis, corner, 1] * row
            for lane in range(0, row, LANES):
                around = _multiply(half, _add(_load(value, one + lane), _load(value, two + lane)))
                place = (corner + 1) * row + lane
                _store(spare, place, _add(_load(value, place), around))
        value, spare = spare, value
    return value, spare


@compiled
def _sliced(value, corners, weights, pixel, row, lane, count):
    total = _multiply(_fill(weights[pixel, 0]), _load(value, corners[pixel, 0] * row + lane))
    for j in range(1, count):
        total = _add(total, _multiply(_fill(weights[pixel, j]), _load(value, corners[pixel, j] * row + lane)))
    return total


@compiled
def _splat(value, corners, weights, pixel, row, lane, count, given):
    for j in range(count):
        place = corners[pixel, j] * row + lane
        _store(value, place, _add(_load(value, place), _multiply(_fill(weights[pixel, j]), given)))


@compiled
def _softmax(energy, first, span, places):
    # Over the labels of each problem, which has `places` (2, 4 or 8) lanes of a block, or all lanes of `span` blocks. In each
    # step every lane takes in another one, so that in the end all lanes of a problem hold its maximum, or its sum.
    most = _load(energy, first)
    for block in range(1, span):
        most = _larger(most, _load(energy, first + block * LANES))
    most = _larger(most, _exchange_1(most))
    if places > 2:
        most = _larger(most, _exchange_2(most))
    if places > 4:
        most = _larger(most, _exchange_4(most))
    total = _fill(np.float32(0))
    for block in range(span):
        place = first + block * LANES
        term = _exp(_subtract(_load(energy, place), most))
        _store(energy, place, term)
        total = _add(total, term)
    total = _add(total, _exchange_1(total))
    if places > 2:
        total = _add(total, _exchange_2(total))
    if places > 4:
        total = _add(total, _exchange_4(total))
    for block in range(span):
        place = first + block * LANES
        _store(energy, place, _divide(_load(energy, place), total))


@compiled
def infer(unary, span, places, iterations, gaussian, gaussian_weight, bilateral, bilateral_weight):
    """Marginals after `iterations` steps.

    Args:
        unary: [N, R] float32 log scores, R a multiple of 8; ABSENT where a lane holds no label.
        span, places: how problems lie in the lanes: a problem takes `places` (2, 4 or 8) lanes of a block of eight, or with
            more than eight labels `span` whole blocks.
        iterations: 0 gives the softmax of the unary.
        gaussian, bilateral: `Lattice`s of the two kernels, normalised.
        gaussian_weight, bilateral_weight: float32 factors of their messages, the lattice's gain included.

    Returns:
        [N, R] float32.
    """
    pixels, row = unary.shape
    blocks = row // LANES
    logs, marginals = unary.ravel(), np.empty(pixels * row, np.float32)
    energy = np.empty(row, np.float32)
    size = (gaussian.neighbours.shape[1] + 1) * row
    smooth, smooth_next, smooth_spare = np.zeros(size, np.float32), np.zeros(size, np.float32), np.zeros(size, np.float32)
    size = (bilateral.neighbours.shape[1] + 1) * row
    near, near_next, near_spare = np.zeros(size, np.float32), np.zeros(size, np.float32), np.zeros(size, np.float32)
    for step in range(iterations + 1):
        if step > 0:
            smooth, smooth_spare = _blur(smooth, smooth_spare, gaussian.neighbours, blocks)
            near, near_spare = _blur(near, near_spare, bilateral.neighbours, blocks)
            smooth_next[:] = 0
            near_next[:] = 0
        for pixel in range(pixels):
            for lane in range(0, row, LANES):
                total = _load(logs, pixel * row + lane)
                if step > 0:
                    message = _sliced(smooth, gaussian.corners, gaussian.weights, pixel, row, lane, GAUSSIAN)
                    total = _add(total, _multiply(_fill(gaussian_weight), message))
                    message = _sliced(near, bilateral.corners, bilateral.weights, pixel, row, lane, BILATERAL)
                    total = _add(total, _multiply(_fill(bilateral_weight), message))
                _store(energy, lane, total)
            for first in range(0, row, span * LANES):
                _softmax(energy, first, span, places)
            for lane in range(0, row, LANES):
                total = _load(energy, lane)
                if step == iterations:
                    _store(marginals, pixel * row + lane, total)
                else:
                    _splat(smooth_next, gaussian.corners, gaussian.weights, pixel, row, lane, GAUSSIAN, total)
                    _splat(near_next, bilateral.corners, bilateral.weights, pixel, row, lane, BILATERAL, total)
        smooth, smooth_next = smooth_next, smooth
        near, near_next = near_next, near
    return marginals.reshape(pixels, row)
