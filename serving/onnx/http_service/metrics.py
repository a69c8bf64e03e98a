"""What Prometheus reads at /metrics."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, PlatformCollector, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

STAGES = ("read", "queue", "inference", "write")
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """The service's own registry, so that several services in one process do not disturb each other."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, service):
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self.requests = Counter("tfwsss_requests", "Requests by route and status.", ["route", "status"], registry=registry)
        self.seconds = Histogram("tfwsss_request_seconds", "Whole time of a request.", ["route"], buckets=_SECONDS, registry=registry)
        self.stages = Histogram("tfwsss_stage_seconds", "Time of each stage of a photo.", ["stage"], buckets=_SECONDS, registry=registry)
        self.images = Counter("tfwsss_images", "Photos segmented.", registry=registry)
        self.batches = Histogram("tfwsss_batch_size", "Photos that ran together.", buckets=(1, 2, 4, 8, 16, 32), registry=registry)
        self._gauge("tfwsss_requests_active", "Requests being served.", lambda: service.admission.requests)
        self._gauge("tfwsss_request_bytes", "Memory taken by bodies and decoded photos.", lambda: service.admission.bytes)
        self._gauge("tfwsss_queue_length", "Photos waiting for their run.", service.batcher.waiting)
        self._gauge("tfwsss_ready", "1 when the model is warm.", lambda: float(service.ready))
        metadata = service.segmenter.metadata
        facts = {"name": service.settings.name, "version": service.settings.version, "device": service.segmenter.device, "precision": str(metadata.get("precision", ""))}
        Info("tfwsss_model", "The model.", registry=registry).info(facts)
        for stage in STAGES:
            self.stages.labels(stage)

    def _gauge(self, name: str, text: str, value) -> None:
        Gauge(name, text, registry=self._registry).set_function(value)

    def render(self) -> bytes:
        """The text format of Prometheus."""
        return generate_latest(self._registry)
