"""The client against a server that executes exported signatures: masks, versions, and every way in which a call can fail."""

import io
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tests.tf_serving.model_server import ModelServer, running
from tfwsss_tf_serving import (
    AnswerError,
    DeadlineError,
    GrpcClient,
    InputError,
    ModelNotFoundError,
    RefusedError,
    RestClient,
    Retry,
    TfServingError,
    TooLargeError,
    UnavailableError,
)

ROOT = Path(__file__).parents[2]
QUICK = Retry(deadline=20, attempts=4, first_wait=0.01, longest_wait=0.05)


def png(image) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(params=["grpc", "rest"])
def connect(request, started, server):
    """connect(**arguments) -> client of the running server."""
    clients = []

    def make(address=None, **arguments):
        kind = GrpcClient if request.param == "grpc" else RestClient
        default = started[1] if request.param == "grpc" else started[2]
        if address:
            address = address if request.param == "grpc" else f"http://{address}"
        clients.append(kind(address or default, **{"retry": QUICK, **arguments}))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


def expected(server, version, images) -> np.ndarray:
    return server.versions[version].signatures["serving_default"](images=tf.constant(images))["mask"].numpy()


@pytest.mark.parametrize("shape", [(33, 47, 3), (1, 8, 8, 3), (3, 20, 31, 3)])
def test_masks_are_those_of_the_model(connect, server, shape):
    images = np.random.default_rng(3).integers(0, 256, shape, np.uint8)
    mask = connect().segment(images)
    assert mask.dtype == np.uint8 and mask.shape == shape[:-1]
    np.testing.assert_array_equal(mask.reshape(-1, *shape[-3:-1]), expected(server, 2, images.reshape(-1, *shape[-3:])))
    assert len(np.unique(mask)) > 1


def test_files_of_any_size(connect, server, photo, tmp_path):
    photos = [photo(30, 41), photo(77, 25, 1)]
    (tmp_path / "one.png").write_bytes(png(photos[0]))
    masks = connect().segment_files([tmp_path / "one.png", png(photos[1])])
    for image, mask in zip(photos, masks, strict=True):
        np.testing.assert_array_equal(mask, expected(server, 2, image[None])[0])


def test_scores(connect, server, photo):
    image = photo(9, 13)
    scores = connect().scores(image)
    assert scores.dtype == np.float32 and scores.shape == (9, 13, 4)
    np.testing.assert_array_equal(scores.argmax(-1), expected(server, 2, image[None])[0])
    np.testing.assert_allclose(scores.sum(-1), 1, atol=1e-5)


def test_versions_and_labels(connect, server, photo):
    image = photo(16, 16)
    assert not np.array_equal(expected(server, 1, image[None]), expected(server, 2, image[None]))
    for arguments, version in (({"label": "stable"}, 1), ({"label": "canary"}, 2), ({"version": 1}, 1), ({}, 2)):
        np.testing.assert_array_equal(connect(**arguments).segment(image), expected(server, version, image[None])[0])
    assert connect().status() == {1: "AVAILABLE", 2: "AVAILABLE"}
    assert connect(label="stable").status() == {1: "AVAILABLE"}
    assert connect().is_ready()
    with pytest.raises(ValueError, match="at most one"):
        connect(version=1, label="stable")


@pytest.mark.parametrize("arguments", [{"model": "other"}, {"version": 7}])
def test_unknown_models_and_versions(connect, server, photo, arguments):
    client = connect(**arguments)
    with pytest.raises(ModelNotFoundError, match="not found"):
        client.segment(photo(8, 8))
    assert not client.is_ready()


def test_unknown_label(connect, photo):
    with pytest.raises(RefusedError, match="label: blue"):
        connect(label="blue").segment(photo(8, 8))


@pytest.mark.parametrize("file", [b"no photo", b"", b"\xff\xd8\xff\xe0 damaged"])
def test_a_bad_file_is_refused_and_not_tried_again(connect, server, file):
    with pytest.raises(RefusedError, match="400|INVALID_ARGUMENT"):
        connect().segment_files([file])
    assert len(server.calls) == 1


def test_a_file_above_the_models_limit_is_refused(connect):
    with pytest.raises(RefusedError, match="1000x1000 pixels"):
        connect().segment_files([png(np.zeros((1000, 1000, 3), np.uint8))])


@pytest.mark.parametrize("images", [np.zeros((8, 8, 3)), np.zeros((8, 8), np.uint8), np.zeros((8, 8, 4), np.uint8), np.zeros((0, 8, 3), np.uint8), "photo"])
def test_wrong_arrays_are_not_sent(connect, server, images):
    for call in (connect().segment, connect().scores):
        with pytest.raises(InputError, match="expected uint8"):
            call(images)
    with pytest.raises(InputError, match="no-such.jpg"):
        connect().segment_files(["no-such.jpg"])
    with pytest.raises(InputError, match="found int"):
        connect().segment_files([3])
    assert server.calls == []


def test_unavailable_is_tried_again(connect, server, photo):
    server.unavailable = 3
    assert connect().segment(photo(8, 8)).shape == (8, 8)
    assert len(server.calls) == 4


def test_attempts_are_counted(connect, server, photo):
    server.unavailable = 100
    with pytest.raises(UnavailableError, match="not now"):
        connect(retry=Retry(deadline=20, attempts=3, first_wait=0.01)).segment(photo(8, 8))
    assert len(server.calls) == 3


def test_a_slow_answer_ends_with_the_deadline(connect, server, photo):
    server.delay = 3.0
    client = connect(retry=Retry(deadline=0.3, attempts=5))
    begin = time.monotonic()
    with pytest.raises(DeadlineError):
        client.segment(photo(8, 8))
    assert time.monotonic() - begin < 2.9  # not the server's time
    server.delay = 0.0
    assert client.segment(photo(8, 8)).shape == (8, 8)  # the late answer is not taken for the next


def test_waits_count_for_the_deadline(connect, server, photo):
    server.unavailable = 1000
    client = connect(retry=Retry(deadline=0.5, attempts=1000, first_wait=0.05, longest_wait=0.1))
    with pytest.raises((UnavailableError, DeadlineError)):
        client.segment(photo(8, 8))
    assert 1 < len(server.calls) < 200


def test_nobody_listens(connect, photo):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    client = connect(address)
    with pytest.raises(UnavailableError):
        client.segment(photo(8, 8))
    assert not client.is_ready()


def test_own_message_limit(connect, server, photo):
    client = connect(max_message_bytes=3000)
    with pytest.raises(TooLargeError, match="max_message_bytes is 3000"):
        client.segment(photo(64, 64))
    assert server.calls == []
    with pytest.raises(TooLargeError):
        client.scores(photo(14, 14))  # 588 bytes there, 3136 back
    assert client.segment(photo(14, 14)).shape == (14, 14)


def test_answers_above_grpcs_own_limit_arrive(started, server):
    with GrpcClient(started[1], retry=Retry(deadline=60)) as client:
        assert client.scores(np.zeros((520, 520, 3), np.uint8)).nbytes > 4 * 1024 * 1024


def test_the_servers_message_limit(versions, photo):
    with running(ModelServer(versions, "segmenter", {}), max_message_bytes=1000) as (address, _), GrpcClient(address) as client, pytest.raises(TooLargeError, match="larger than max"):
        client.segment(photo(64, 64))


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"outputs": 3}', b'{"outputs": [{"b64": "*"}]}', b'{"outputs": [{"b64": "AAAA"}]}', b'{"outputs": []}'])
def test_answers_that_are_not_the_models(started, server, photo, body):
    server.broken = body
    with RestClient(started[2], retry=QUICK) as client:
        with pytest.raises(AnswerError):
            client.segment_files([png(photo(8, 8))])
        with pytest.raises(AnswerError):
            client.scores(photo(8, 8))


def test_a_cut_connection_is_tried_again(started, server, photo):
    server.broken = "drop"
    with RestClient(started[2], retry=Retry(deadline=20, attempts=3, first_wait=0.01)) as client:
        with pytest.raises(UnavailableError):
            client.segment(photo(8, 8))
        assert len(server.calls) == 3
        server.broken = None
        assert client.segment(photo(8, 8)).shape == (8, 8)


def test_threads_share_a_client(connect, server, photo):
    client, failures = connect(), []

    def work(seed):
        image = photo(10 + seed, 12, seed)
        try:
            np.testing.assert_array_equal(client.segment(image), expected(server, 2, image[None])[0])
        except (AssertionError, TfServingError) as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_the_client_brings_nothing_of_tensorflow(started, tmp_path):
    Image.new("RGB", (20, 30), "red").save(tmp_path / "photo.png")
    code = (
        "import sys; from tfwsss_tf_serving import GrpcClient, RestClient\n"
        "masks = [client.segment_files([sys.argv[3]])[0].shape for client in (GrpcClient(sys.argv[1]), RestClient(sys.argv[2]))]\n"
        "print(masks, [m for m in ('tensorflow', 'tensorflow_serving', 'keras', 'tfwsss', 'pipelines') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, started[1], started[2], str(tmp_path / "photo.png")], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[(30, 20), (30, 20)] []", done.stderr
