"""What the HTTP service does under clients that are after its memory, and what a good client notices of them.

    python benchmarks/hostile_clients.py                    # MobileNetV2 with random weights, exported for the occasion
    python benchmarks/hostile_clients.py runs/demo/export/model.onnx --memory-mb 600

Each attack meets a fresh service on the loopback device, lasts for at most --seconds, and while it lasts a photo of 500x375 is sent
again and again. Attacks: `photos`, 20 photos of 1500x1500 at once, overlays wanted; `empties`, 20 inference requests at once that
announce one photo and carry 28 MB of empty ones; `unread`, 400 connections that ask for answers of 4 MB and never read; `large`, one
client that sends photos of 2500x2000, which are cut into tiles, one after the other. Prints a Markdown table: the attackers' answers, resident memory (from /proc) before, at its peak and afterwards, and the good photo's latency.
"""

from __future__ import annotations

import argparse
import collections
import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from server import EXPORT, ROOT, Server, jpeg, post

INFER = "/v2/models/segmenter/infer"


def answer(server: Server, path: str, body: bytes, headers: dict, seconds: float) -> str:
    """The status of one request on a connection of its own, or how it failed."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=seconds)
    try:
        connection.request("POST", path, body, headers)
        found = connection.getresponse()
        found.read()
        return str(found.status)
    except OSError as error:
        return type(error).__name__
    finally:
        connection.close()


def at_once(count: int, function) -> list[str]:
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(function())) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def photos(server: Server, seconds: float) -> list[str]:
    photo = jpeg(1500, 1500, 1)
    return at_once(20, lambda: answer(server, "/segment?output=overlay", photo, {"Content-Type": "image/jpeg"}, seconds))


def empties(server: Server, seconds: float) -> list[str]:
    tensor = {"name": "image_bytes", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": 28_000_000}}
    header = json.dumps({"inputs": [tensor]}).encode()
    body = header + bytes(28_000_000)
    return at_once(20, lambda: answer(server, INFER, body, {"Inference-Header-Content-Length": str(len(header))}, seconds))


def unread(server: Server, seconds: float) -> list[str]:
    tensor = {"name": "images", "shape": [1, 1, 1, 3], "datatype": "UINT8", "data": [1, 2, 3]}
    body = json.dumps({"id": "x" * 3_900_000, "inputs": [tensor]}).encode()
    found, sockets, started = [], [], time.perf_counter()
    for _ in range(400):
        if time.perf_counter() - started > seconds:
            break
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(5)
        sockets.append(connection)
        try:
            connection.connect(("127.0.0.1", server.port))
            connection.sendall(b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % (INFER.encode(), len(body)) + body)
            found.append("sent")
        except OSError as error:
            found.append(type(error).__name__)
    time.sleep(min(10, seconds))
    for connection in sockets:
        connection.close()
    return found


def large(server: Server, seconds: float) -> list[str]:
    photo, started, found = jpeg(2000, 2500, 1), time.perf_counter(), []
    while time.perf_counter() - started < seconds:
        found.append(answer(server, "/segment", photo, {"Content-Type": "image/jpeg"}, seconds))
    return found


ATTACKS = {"photos": photos, "empties": empties, "unread": unread, "large": large}


def measured(model: Path, name: str, memory_mb: float, seconds: float) -> str:
    """A row of the table."""
    photo = jpeg(375, 500, 0)
    good: list[tuple[str, float]] = []
    with Server(model, "--memory-mb", f"{memory_mb:g}") as server:
        post(server.connect(), photo)
        before, over = server.memory(), threading.Event()

        def client() -> None:
            while not over.is_set():
                begun = time.perf_counter()
                status = answer(server, "/segment", photo, {"Content-Type": "image/jpeg"}, 60)
                good.append((status, time.perf_counter() - begun))
                over.wait(0.2)

        thread = threading.Thread(target=client)
        thread.start()
        begun = time.perf_counter()
        statuses = collections.Counter(ATTACKS[name](server, seconds))
        took = time.perf_counter() - begun
        over.set()
        thread.join()
        time.sleep(3)
        peak, after = server.memory("VmHWM"), server.memory()
    latencies = [latency for status, latency in good if status == "200"]
    refused = collections.Counter(status for status, _ in good if status != "200")
    answers = ", ".join(f"{count} x {status}" for status, count in sorted(statuses.items()))
    figures = f"{statistics.median(latencies):.2f} and {max(latencies):.2f} s ({len(latencies)})" if latencies else "none"
    others = ", ".join(f"{count} x {status}" for status, count in sorted(refused.items())) or "none"
    return f"| {name} | {took:.0f} s | {answers} | {before:.0f} | {peak:.0f} | {after:.0f} | {figures} | {others} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", type=Path, help="an exported .onnx file (default: MobileNetV2, 20 classes, random weights)")
    parser.add_argument("--memory-mb", type=float, default=600, help="limit of the service (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=60, help="longest wait for an attacker's answer (default: %(default)s)")
    parser.add_argument("--only", nargs="+", choices=tuple(ATTACKS), default=tuple(ATTACKS))
    arguments = parser.parse_args()
    print("| attack | time | attackers' answers | MB before | MB peak | MB after | good photo: median and worst (photos) | good photo, other answers |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        model = arguments.model
        if model is None:
            model = Path(folder, "model.onnx")
            environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
            subprocess.run([sys.executable, "-c", EXPORT.format(path=str(model))], cwd=ROOT, env=environment, check=True, capture_output=True)
        for name in arguments.only:
            print(measured(model, name, arguments.memory_mb, arguments.seconds), flush=True)


if __name__ == "__main__":
    main()
