"""Limits of the service: length, time, queue and memory, each answered and each without harm to what follows."""

import io
import socket
import threading
import time

import httpx
import pytest
from PIL import Image

HEAD = "POST /segment HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: {length}\r\n\r\n"


@pytest.fixture(scope="module")
def tight(serve, exported):
    """A server of small limits."""
    limits = {"max-body-mb": 0.2, "max-json-mb": 0.05, "queue": 2, "time-limit-s": 2, "header-limit-s": 1, "max-megapixels": 3}
    return serve(exported("local"), *(part for name, value in limits.items() for part in (f"--{name}", str(value))))


@pytest.fixture
def client(tight):
    with httpx.Client(base_url=tight.url, timeout=60) as client:
        yield client
        for _ in range(100):  # what a test left behind has been given back
            values = dict(line.rsplit(" ", 1) for line in client.get("/metrics").text.splitlines() if not line.startswith("#"))
            if float(values["tfwsss_requests_active"]) == float(values["tfwsss_request_bytes"]) == 0:
                break
            time.sleep(0.1)
        assert float(values["tfwsss_requests_active"]) == float(values["tfwsss_request_bytes"]) == 0


def png(height: int, width: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), "teal").save(file, "PNG")
    return file.getvalue()


def half_sent(server, length: int = 1000) -> socket.socket:
    """A connection whose request's body does not arrive."""
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=30)
    connection.sendall(HEAD.format(length=length).encode() + b"\x89PNG")
    return connection


def answer(connection: socket.socket) -> bytes:
    """All that comes until the other side closes."""
    with connection:
        return b"".join(iter(lambda: connection.recv(65536), b""))


def test_the_body(client):
    assert client.post("/segment", content=png(24, 40)).status_code == 200
    for content in (bytes(300_000), iter([bytes(100_000)] * 3), bytes(20_000_000)):  # announced, in chunks, and much too long
        found = client.post("/segment", content=content)
        assert found.status_code == 413 and "limit of 0.2 MB" in found.json()["error"]
        assert client.post("/segment", content=png(24, 40)).status_code == 200


def test_json(client):
    image = {"name": "images", "shape": [1, 100, 100, 3], "datatype": "UINT8", "data": [0] * 30_000}
    found = client.post("/v2/models/segmenter/infer", json={"inputs": [image]})
    assert found.status_code == 413 and "send tensors in binary" in found.json()["error"]


def test_pixels(client):
    found = client.post("/segment", content=png(2000, 2000))
    assert found.status_code == 413 and "2000x2000 pixels, the limit is 3 megapixels" in found.json()["error"]
    image = {"name": "images", "shape": [1, 2000, 2000, 3], "datatype": "UINT8", "data": []}
    assert client.post("/v2/models/segmenter/infer", json={"inputs": [image]}).status_code == 413


def test_a_slow_body(client, tight):
    found = answer(half_sent(tight))
    assert b"408 " in found and b"did not arrive within 2 s" in found
    assert b"connection: close" in found.lower()


def test_the_queue(client, tight):
    slow = [half_sent(tight) for _ in range(2)]
    try:
        for _ in range(100):
            found = client.post("/segment", content=png(24, 40))
            if found.status_code == 503:
                break
        assert found.status_code == 503 and "2 requests are being served, the limit is 2" in found.json()["error"]
        assert client.get("/v2/health/live").status_code == client.get("/metrics").status_code == 200
    finally:
        for connection in slow:
            connection.close()


def test_silent_connections_are_closed(tight):
    for said in (b"", b"POST /segment HT", b"GET /v2 HTTP/1.1\r\nHost: localhost\r\n\r\nGET /v2 HT"):
        connection = socket.create_connection(("127.0.0.1", tight.port), timeout=30)
        connection.sendall(said)
        found = answer(connection)
        assert (b"200 OK" in found) == (b"\r\n\r\n" in said)


def test_clients_that_go_away(client, tight):
    for _ in range(5):
        half_sent(tight).close()
    assert client.get("/v2/health/ready").status_code == 200


def test_work_for_a_client_that_went_away_is_stopped(serve, exported):
    server = serve(exported("local"), "--time-limit-s", "600", "--max-megapixels", "100", "--memory-mb", "4000", "--threads", "1")
    photo = png(9000, 9000)
    with httpx.Client(base_url=server.url, timeout=120) as client:
        connection = socket.create_connection(("127.0.0.1", server.port), timeout=30)
        connection.sendall(HEAD.format(length=len(photo)).encode() + photo)
        while "tfwsss_requests_active 1.0" not in client.get("/metrics").text:
            time.sleep(0.01)
        connection.close()
        while "tfwsss_requests_active 0.0" not in client.get("/metrics").text:
            time.sleep(0.01)
        text = client.get("/metrics").text
    assert 'tfwsss_requests_total{route="/segment",status="499"} 1.0' in text and "tfwsss_images_total 0.0" in text


def test_a_run_that_takes_too_long_is_stopped(serve, exported):
    server = serve(exported("local"), "--time-limit-s", "0.2", "--max-megapixels", "100", "--threads", "1")
    with httpx.Client(base_url=server.url, timeout=120) as client:
        found = client.post("/segment", content=png(7000, 7000))
        assert found.status_code == 504 and "not ready within 0.2 s" in found.json()["error"]
        for _ in range(600):  # the thread is free again once the photo is decoded
            again = client.post("/segment", content=png(24, 40))
            if again.status_code == 200:
                break
            time.sleep(0.1)
        assert again.status_code == 200


def test_before_it_is_ready_it_says_so(exported):
    import asyncio

    from tfwsss_onnx import Segmenter
    from tfwsss_onnx.http_service import Settings, create_app

    gate = threading.Event()

    class SlowStart(Segmenter):
        def warm_up(self, sizes=((512, 512),), batches=(1,)):
            gate.wait(30)
            return super().warm_up(((24, 40),))

    async def statuses() -> list:
        app = create_app(SlowStart(exported("local"), "cpu"), Settings(name="pets"))
        async with app.router.lifespan_context(app), httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
            found = []
            for _ in range(2):
                for method, address in (("GET", "/v2/health/live"), ("GET", "/v2/health/ready"), ("GET", "/v2/models/pets/ready"), ("POST", "/segment")):
                    found.append((await client.request(method, address, content=png(24, 40) if method == "POST" else None)).status_code)
                gate.set()
                while not app.state.service.ready:
                    await asyncio.sleep(0.01)
            return found

    assert asyncio.run(statuses()) == [200, 503, 503, 503, 200, 200, 200, 200]


@pytest.mark.parametrize("arguments", [["missing.onnx"], ["MODEL", "--queue", "0"], ["MODEL", "--warm-up", "5"], ["MODEL", "--device", "gpu"], ["MODEL", "--window-ms", "-1"], ["MODEL", "--name", "a/b"]])
def test_wrong_options_end_with_2(exported, arguments, capsys):
    from tfwsss_onnx.http_service.command import main

    with pytest.raises(SystemExit) as caught:
        main([str(exported("local")) if argument == "MODEL" else argument for argument in arguments])
    assert caught.value.code == 2
    assert "error: " in capsys.readouterr().err
