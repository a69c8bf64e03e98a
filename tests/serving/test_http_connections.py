"""Connections: half-closed, idle by the hundred, gone, deaf; and the names that requests may use."""

import json
import socket
import time

import httpx
import pytest

from tests.serving.test_http_limits import png
from tfwsss_onnx.http_service.hosts import HostCheck, is_loopback

INFER = "/v2/models/segmenter/infer"


def request(body: bytes, path: str = "/segment", host: str = "localhost") -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def connect(server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=30)


def everything(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.fixture(scope="module")
def few(serve, exported):
    return serve(exported("local"), "--connections", "30", "--connections-per-address", "20", "--header-limit-s", "60", "--write-limit-s", "2")


@pytest.mark.parametrize("body", [png(24, 40), png(900, 1200)])
def test_a_client_that_closes_its_side_gets_its_answer(server, body):
    with connect(server) as connection:
        connection.sendall(request(body))
        connection.shutdown(socket.SHUT_WR)
        found = everything(connection)
    assert b"HTTP/1.1 200 OK" in found and b"\x89PNG" in found and b"IEND" in found


def test_two_requests_and_then_the_end(server):
    with connect(server) as connection:
        connection.sendall(request(png(24, 40)) * 2)
        connection.shutdown(socket.SHUT_WR)
        assert everything(connection).count(b"HTTP/1.1 200 OK") == 2


def test_half_a_request_and_then_the_end(server):
    for part in (b"", b"POST /segm", request(png(24, 40))[:-20]):
        with connect(server) as connection:
            connection.sendall(part)
            connection.shutdown(socket.SHUT_WR)
            assert b" 200 " not in everything(connection)


def test_idle_connections_lock_nobody_out(few):
    idle = [connect(few) for _ in range(80)]
    started = time.monotonic()
    assert httpx.post(f"{few.url}/segment", content=png(24, 40), timeout=60).status_code == 200
    assert time.monotonic() - started < 60  # the header limit, after which they would be closed anyway
    open_ones = 0
    for connection in idle:
        connection.settimeout(0.2)
        try:
            open_ones += connection.recv(1) != b""
        except TimeoutError:
            open_ones += 1
        except ConnectionError:
            pass
        connection.close()
    assert 0 < open_ones <= 20


def test_busy_connections_are_not_closed_for_others(few):
    busy = [connect(few) for _ in range(20)]
    for connection in busy:
        connection.sendall(request(png(24, 40))[:-10])
    time.sleep(1)
    with connect(few) as another:
        assert b"503 Service Unavailable" in everything(another)
    busy[0].sendall(request(png(24, 40))[-10:])
    assert b"200 OK" in busy[0].recv(100)
    for connection in busy:
        connection.close()


def test_an_answer_that_nobody_reads_ends_with_its_connection(few):
    body = json.dumps({"id": "x" * 3_900_000, "inputs": [{"name": "images", "shape": [1, 1, 1, 3], "datatype": "UINT8", "data": [1, 2, 3]}]}).encode()
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(30)
        connection.connect(("127.0.0.1", few.port))
        connection.sendall(request(body, INFER))
        while "tfwsss_request_bytes 0.0" in httpx.get(f"{few.url}/metrics").text:
            time.sleep(0.01)  # until it has begun
        while "tfwsss_request_bytes 0.0" not in httpx.get(f"{few.url}/metrics").text:
            time.sleep(0.1)
        found = b""
        with pytest.raises(ConnectionError):
            for _ in range(10_000):
                part = connection.recv(65536)
                found += part
                if not part:
                    raise ConnectionError
    assert len(found) < len(body)
    assert "Traceback" not in few.log.read_text()


def test_an_answer_that_is_read_slowly_arrives(server):
    body = json.dumps({"id": "x" * 2_000_000, "inputs": [{"name": "images", "shape": [1, 1, 1, 3], "datatype": "UINT8", "data": [1, 2, 3]}]}).encode()
    with connect(server) as connection:
        connection.sendall(request(body, INFER).replace(b"Host:", b"Connection: close\r\nHost:"))
        found = b""
        while part := connection.recv(100_000):
            found += part
            time.sleep(0.02)
    assert len(found.partition(b"\r\n\r\n")[2]) > 2_000_000 and found.endswith(b"}")


@pytest.mark.parametrize(("host", "allowed"), [("localhost", True), ("127.0.0.1:80", True), ("[::1]:8080", True), ("LOCALHOST.", True), ("evil.example", False), ("localhost.evil.example", False), ("127.0.0.1.evil.example:8080", False), ("10.0.0.7", False), ("", False), ("a b", False), ("[evil]", False)])
def test_names_of_the_service(server, host, allowed):
    for path in ("/v2/health/live", "/metrics", "/", "/openapi.json"):
        with connect(server) as connection:
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            assert everything(connection).startswith(b"HTTP/1.1 200" if allowed else b"HTTP/1.1 4")


def test_more_names(serve, exported):
    server = serve(exported("local"), "--allow-host", "segmenter.internal")
    for host, status in (("segmenter.internal:8080", 200), ("localhost", 200), ("other.internal", 421)):
        assert httpx.get(f"{server.url}/v2", headers={"Host": host}).status_code == status


@pytest.mark.parametrize(
    ("names", "any_address", "allowed", "refused"),
    [
        (("0.0.0.0",), True, ["10.1.2.3:8080", "[fe80::1]", "localhost"], ["evil.example", "10.1.2.3.evil.example"]),
        (("pets.example",), False, ["Pets.Example:443"], ["10.1.2.3"]),
        (("*",), False, ["evil.example", ""], []),
    ],
)
def test_what_is_allowed(names, any_address, allowed, refused):
    check = HostCheck(None, names, any_address=any_address)
    assert all(check._allowed([(b"host", host.encode())]) for host in allowed)
    assert not any(check._allowed([(b"host", host.encode())]) for host in refused)
    assert check._allowed([])  # HTTP/1.0


def test_loopback():
    assert all(map(is_loopback, ("127.0.0.1", "localhost", "::1", "[::1]", "127.3.2.1")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "pets.example", "10.0.0.1")))
