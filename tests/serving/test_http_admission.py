"""Places and memory of requests: never more than allowed, all given back."""

import threading

import pytest

from tfwsss_onnx.http_service.admission import Admission
from tfwsss_onnx.http_service.failures import Busy


def test_requests_and_memory_have_limits():
    admission = Admission(2, 1.0)
    with admission.enter() as first:
        first.reserve(600_000)
        with admission.enter() as second:
            with pytest.raises(Busy, match="2 requests"):
                admission.enter()
            with pytest.raises(Busy, match="memory"):
                second.reserve(500_000)
            second.reserve(400_000)
        second_again = admission.enter()
        with second_again:
            second_again.reserve(400_000)
    assert (admission.requests, admission.bytes) == (0, 0)


def test_a_thread_that_goes_on_after_its_request_takes_nothing():
    admission = Admission(2, 1.0)
    with admission.enter() as ticket:
        ticket.reserve(1000)
    with pytest.raises(Busy, match="ended"):
        ticket.reserve(1000)
    assert (admission.requests, admission.bytes) == (0, 0)


def test_threads_share_it():
    admission = Admission(50, 1.0)

    def work():
        for _ in range(500):
            with admission.enter() as ticket:
                ticket.reserve(10)
                ticket.reserve(20)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (admission.requests, admission.bytes) == (0, 0)
