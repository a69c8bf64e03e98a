"""Random walk of class scores over the affinity graph (Ahn & Kwak, CVPR 2018, section 3.3).

With W the symmetric matrix of affinities to the power beta (1 on the diagonal) and D its row sums, the walk is
``y = (D^-1 W)^steps x`` for every channel x. Three ways to compute it:

dense      the paper's: the N x N transition matrix, raised to the power by squarings. Memory 12 N^2 bytes, time O(N^3).
sparse     `steps` products with the sparse W; the result of "dense" up to rounding.
chebyshev  x**steps on [-1, 1], where the spectrum of D^-1 W lies, is a Chebyshev series whose coefficients fall like
           exp(-k^2 / (2 steps)): only about sqrt(2 steps log(1/tolerance)) products are needed. On a processor they
           are those of `tfwsss.stencil`, on a GPU and inside a tf.function those of tf.sparse.

The sparse methods compute in float64: their time goes into memory access, so it costs a few percent, and in float32 the
rounding errors of the recurrence (3e-5) would exceed the default tolerance. "dense" is float32 like the reference.
"""

import math
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
import tensorflow as tf

from tfwsss import stencil
from tfwsss.affinity import check_grid, pair_offsets, valid_pairs
from tfwsss.errors import DataError

Border = Literal["faithful", "full"]
Method = Literal["dense", "sparse", "chebyshev"]
Engine = Literal["auto", "stencil", "tensorflow"]


class _Graph(NamedTuple):
    """Structure of W for one grid: where the entries are and which pair each of them is."""

    indices: np.ndarray  # int64 [M, 2] of all entries in row-major order
    pair: np.ndarray  # int32 [M] position in the list of pairs on the grid; the last position is the diagonal's 1
    on_grid: np.ndarray  # int32 [E] positions of those pairs in the flattened affinities of one image
    nodes: int


@lru_cache(maxsize=16)  # photos of a data set share few sizes; a 128 x 128 grid takes 22 MB
def _graph(height: int, width: int, radius: int, border: str) -> _Graph:
    offsets = pair_offsets(radius)
    reach = radius - 1
    nodes = height * width
    node = np.arange(nodes).reshape(height, width)
    if border == "faithful":
        check_grid(height, width, radius)
        inner = node[: height - reach, reach : width - reach]
        source = np.broadcast_to(inner, (len(offsets), *inner.shape)).ravel()
        on_grid = np.arange(source.size)
    else:
        on_grid = np.flatnonzero(valid_pairs(height, width, radius))
        source = np.broadcast_to(node, (len(offsets), height, width)).ravel()[on_grid]
    step = offsets[:, 0] * width + offsets[:, 1]
    target = source + step[on_grid // (on_grid_size(height, width, radius, border))]
    edges = source.size
    row = np.concatenate([source, target, node.ravel()])
    column = np.concatenate([target, source, node.ravel()])
    pair = np.concatenate([np.arange(edges), np.arange(edges), np.full(nodes, edges)])
    order = np.lexsort((column, row))
    return _Graph(
        np.stack([row, column], axis=1)[order].astype(np.int64),
        pair[order].astype(np.int32),
        on_grid.astype(np.int32),
        nodes,
    )


def on_grid_size(height: int, width: int, radius: int, border: str) -> int:
    """Number of listed source cells per offset."""
    return height * width if border == "full" else (height - radius + 1) * (width - 2 * radius + 2)


def chebyshev_coefficients(steps: int, tolerance: float) -> np.ndarray:
    """Coefficients c_0..c_m of ``x**steps ~ sum_k c_k T_k(x)`` on [-1, 1], float64.

    The exact ones are ``2 C(steps, (steps-k)/2) / 2**steps`` for even steps - k (half of it for k = 0), else 0. All are
    positive, so the largest error is the sum of the dropped ones; m is the smallest degree for which it is at most
    `tolerance` / 2. The kept ones are then divided by their sum: the polynomial is 1 at x = 1, so constant maps and
    isolated cells come out unchanged, and the error is at most `tolerance`.
    """
    degree = np.arange(steps % 2, steps + 1, 2)
    log_term = [
        math.lgamma(steps + 1) - math.lgamma((steps - k) // 2 + 1) - math.lgamma((steps + k) // 2 + 1) for k in degree
    ]
    exact = np.exp(np.array(log_term) - (steps - 1) * math.log(2.0))
    if steps % 2 == 0:
        exact[0] /= 2
    dropped = np.append(np.cumsum(exact[::-1])[::-1], 0.0)  # entry i: everything from exact[i] on is dropped
    keep = max(int(np.argmax(dropped <= tolerance / 2)), 1)
    coefficients = np.zeros(degree[keep - 1] + 1)
    coefficients[degree[:keep]] = exact[:keep] / exact[:keep].sum()
    return coefficients


def polynomial_tolerance(tolerance: float, nodes: int, radius: int) -> float:
    """The polynomial error that keeps the walk's error below `tolerance` times the largest score, at every cell.

    A polynomial error e is an error of e in the norm weighted with the row sums d of W. At cell i this is at most
    ``e * sqrt(sum(d) / d_i) * max|x|``, and every row sum lies between 1 (the self loop) and 1 + 2 P.
    """
    return tolerance / math.sqrt(nodes * (1 + 2 * len(pair_offsets(radius))))


def _weights(affinity, graph: _Graph, beta: float, check: bool) -> tf.Tensor:
    """[M] entries of W: ``affinity**beta`` of the pairs on the grid, 1 on the diagonal."""
    used = tf.gather(tf.reshape(affinity, [-1]), graph.on_grid)
    if check:
        _check_affinity(used.numpy())
    return tf.gather(tf.concat([tf.pow(used, beta), tf.ones([1], used.dtype)], axis=0), graph.pair)


def _check_affinity(values: np.ndarray) -> None:
    if not np.isfinite(values).all():
        raise DataError(
            f"affinity: expected 0..1, found {np.count_nonzero(~np.isfinite(values))} NaN or infinite values"
        )
    if values.size and (values.min() < 0 or values.max() > 1 + 1e-5):
        raise DataError(f"affinity: expected 0..1, found {values.min():g}..{values.max():g}")


def transition_matrix(weights, graph: _Graph) -> tf.Tensor:
    """[N, N] W divided by its column sums, as the reference builds it; a row vector is multiplied from the left."""
    dense = tf.scatter_nd(graph.indices, weights, [graph.nodes, graph.nodes])
    return dense / tf.reduce_sum(dense, axis=0, keepdims=True)


def _walk_dense(graph, weights, scores, steps):
    power = transition_matrix(weights, graph)
    rows = tf.transpose(scores)
    while steps:
        if steps & 1:
            rows = rows @ power
        steps >>= 1
        if steps:
            power = power @ power
    return tf.transpose(rows)


def _multiply(matrix, scores):
    # sparse_dense_matmul forgets the static shape, which a loop in graph mode does not accept.
    return tf.ensure_shape(tf.sparse.sparse_dense_matmul(matrix, scores), scores.shape)


@tf.function(reduce_retracing=True)
def _walk_sparse(indices, values, nodes, scores, steps):
    matrix = tf.SparseTensor(indices, values, tf.stack([nodes, nodes]))
    inverse = 1.0 / _multiply(matrix, tf.ones_like(scores[:, :1]))
    for _ in tf.range(steps):
        scores = inverse * _multiply(matrix, scores)
    return scores


@tf.function(reduce_retracing=True)
def _walk_chebyshev(indices, values, nodes, scores, coefficients):
    matrix = tf.SparseTensor(indices, values, tf.stack([nodes, nodes]))
    root = tf.sqrt(_multiply(matrix, tf.ones_like(scores[:, :1])))
    scale = tf.reshape(1.0 / root, [-1])
    matrix = matrix.with_values(values * tf.gather(scale, indices[:, 0]) * tf.gather(scale, indices[:, 1]))
    now = scores * root
    before = _multiply(matrix, now)  # T_-1 = T_1, so the recurrence needs no special first step
    total = coefficients[0] * now
    for degree in tf.range(1, tf.size(coefficients)):
        now, before = 2.0 * _multiply(matrix, now) - before, now
        total += coefficients[degree] * now
    return total / root


def _takes_stencil(engine: Engine, eager: bool) -> bool:
    if engine not in ("auto", "stencil", "tensorflow"):
        raise ValueError(f"engine: expected 'auto', 'stencil' or 'tensorflow', found {engine!r}")
    if engine == "auto":
        return eager and not tf.config.list_logical_devices("GPU")
    if engine == "stencil" and not eager:
        raise ValueError("engine: 'stencil' computes outside of TensorFlow, found inside a tf.function")
    return engine == "stencil"


def _walk_stencil(affinity: np.ndarray, cam: np.ndarray, radius: int, beta: float, coefficients: np.ndarray) -> tf.Tensor:
    height, width = cam.shape[1:3]
    if not (affinity.size and affinity.min() >= 0 and affinity.max() <= 1):  # looking at the pairs on the grid alone takes longer
        _check_affinity(affinity[:, valid_pairs(height, width, radius)] if affinity.shape[2:] == (height, width) else affinity)
    walked = [
        stencil.walk(one, scores, radius=radius, beta=beta, coefficients=coefficients)
        for one, scores in zip(affinity, cam, strict=True)
    ]
    return tf.constant(np.stack(walked) if walked else cam)


def random_walk(
    affinity,
    cam,
    *,
    radius: int = 5,
    beta: float = 8.0,
    steps: int = 256,
    border: Border = "full",
    method: Method = "chebyshev",
    tolerance: float = 1e-5,
    engine: Engine = "auto",
) -> tf.Tensor:
    """Spread class scores over the affinity graph.

    Args:
        affinity: [B, P, h, w] in 0..1 for border="full": entry p, y, x is the pair ((y, x), (y+dy, x+dx)); pairs that
            leave the grid are ignored. [B, P, h-(r-1), w-2(r-1)] for border="faithful", the reference's pair set, in
            which some border cells have no neighbour and keep their score.
        cam: [B, h, w, C] scores on the same grid, background included.
        radius: pairs are closer than this many cells, >= 2.
        beta: exponent of the affinities, > 0.
        steps: length of the walk, >= 0.
        border: which pairs there are.
        method: "dense", "sparse" or "chebyshev"; see the module.
        tolerance: "chebyshev" only: bound of the error at every cell, relative to the largest absolute score (plus the
            rounding of the float32 result).
        engine: "chebyshev" only: what computes the products. "stencil" needs eager execution; "auto" takes it where
            there is no GPU.

    Returns:
        float32 [B, h, w, C]. Every output value is a weighted mean of the channel's input values.

    Raises:
        DataError: the grid is too small for border="faithful", or (outside of tf.function only) an affinity is NaN,
            infinite or not in 0..1, or a score is NaN or infinite.
        ValueError: an argument is unknown, out of range or of the wrong shape.
    """
    affinity, cam = tf.cast(affinity, tf.float32), tf.cast(cam, tf.float32)
    if method not in ("dense", "sparse", "chebyshev"):
        raise ValueError(f"method: expected 'dense', 'sparse' or 'chebyshev', found {method!r}")
    if border not in ("faithful", "full"):
        raise ValueError(f"border: expected 'faithful' or 'full', found {border!r}")
    if not beta > 0 or not tolerance > 0 or int(steps) != steps or steps < 0:
        raise ValueError(
            "expected beta > 0, tolerance > 0 and integer steps >= 0, "
            f"found beta={beta!r}, tolerance={tolerance!r}, steps={steps!r}"
        )
    if cam.shape.rank != 4 or cam.shape[1] is None or cam.shape[2] is None:
        raise ValueError(f"cam: expected shape [B, h, w, C] with known h and w, found {cam.shape}")
    height, width = cam.shape[1], cam.shape[2]
    pairs = len(pair_offsets(radius))
    if border == "faithful":
        check_grid(height, width, radius)
        expected = [pairs, height - radius + 1, width - 2 * radius + 2]
    else:
        expected = [pairs, height, width]
    if affinity.shape.rank != 4 or not affinity.shape[1:].is_compatible_with(expected):
        raise ValueError(f"affinity: expected [B, {', '.join(map(str, expected))}], found {affinity.shape}")
    counted = affinity.shape[0] is not None and cam.shape[0] is not None
    if counted and affinity.shape[0] != cam.shape[0]:
        raise ValueError(f"affinity holds {affinity.shape[0]} images, cam {cam.shape[0]}")
    eager = tf.executing_eagerly()
    if eager and not np.isfinite(cam.numpy()).all():
        raise DataError("cam: expected finite scores, found NaN or infinity")

    if method == "chebyshev":
        coefficients = chebyshev_coefficients(int(steps), polynomial_tolerance(tolerance, height * width, radius))
        if _takes_stencil(engine, eager):
            return _walk_stencil(affinity.numpy(), cam.numpy(), int(radius), beta, coefficients)
    graph = _graph(height, width, int(radius), border)
    precision = tf.float32 if method == "dense" else tf.float64

    def walk_image(image_affinity, image_cam):
        weights = _weights(tf.cast(image_affinity, precision), graph, beta, check=eager)
        scores = tf.cast(tf.reshape(image_cam, [graph.nodes, -1]), precision)
        nodes = tf.constant(graph.nodes, tf.int64)
        if method == "dense":
            result = _walk_dense(graph, weights, scores, int(steps))
        elif method == "sparse":
            result = _walk_sparse(graph.indices, weights, nodes, scores, tf.constant(int(steps)))
        else:
            result = _walk_chebyshev(graph.indices, weights, nodes, scores, coefficients)
        return tf.cast(tf.reshape(result, tf.shape(image_cam)), tf.float32)

    if not counted:
        return tf.map_fn(lambda pair: walk_image(*pair), (affinity, cam), fn_output_signature=cam.dtype)
    images = [walk_image(affinity[index], cam[index]) for index in range(cam.shape[0])]
    return tf.stack(images) if images else cam
