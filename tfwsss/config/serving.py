"""What `tfwsss export --bundle` writes, field by field."""

from typing import Annotated

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from tfwsss.config.section import Section

Port = Annotated[int, Field(ge=1, le=65535)]
Tag = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]


def _with_different_ports(section: Section, *names: str) -> Section:
    ports = [getattr(section, name) for name in names]
    if len(set(ports)) < len(ports):
        raise ValueError(f"{', '.join(names[:-1])} and {names[-1]}: expected different ports, found {', '.join(map(str, ports))}")
    return section


class Triton(Section):
    """For NVIDIA's Triton Inference Server."""

    tag: Tag = Field("26.07-py3", description="of the image nvcr.io/nvidia/tritonserver that bundle/triton/Dockerfile begins with; before 25.08 a request could run code in it")
    image: Annotated[str, Field(pattern=r"^[a-z0-9][A-Za-z0-9_.:/@-]*$")] | None = Field(
        None, description="name of the image that bundle/triton/Dockerfile builds, with registry and tag where others must find it; null: <model_name>-triton"
    )
    http_port: Port = Field(8000, description="on the loopback interface of the host")
    grpc_port: Port = Field(8001, description="on the loopback interface of the host")
    metrics_port: Port = Field(8002, description="on the loopback interface of the host")

    @model_validator(mode="after")
    def _different_ports(self):
        return _with_different_ports(self, "http_port", "grpc_port", "metrics_port")


class KServe(Section):
    """For KServe on Kubernetes."""

    storage_uri: Annotated[str, Field(pattern=r"^[a-z][a-z0-9+.-]*://[^\s]+$")] | None = Field(
        None, description="where the cluster finds a copy of bundle/triton/model_repository, such as s3://bucket/folder; null: pvc://<model_name>/model_repository"
    )


class Serving(Section):
    """What `tfwsss export --bundle` writes for servers; no part of any fingerprint."""

    model_name: Tag = "segmenter"
    stable: PositiveInt | None = Field(None, description="version with the label stable; null: the one before the newest, or the only one")
    canary: PositiveInt | None = Field(None, description="version with the label canary; null: the newest")
    rest_port: Port = Field(8501, description="on the loopback interface of the host")
    grpc_port: Port = Field(8500, description="on the loopback interface of the host")
    image_tag: Tag | None = Field(None, description="of the image tensorflow/serving, without the -gpu that the GPU file adds; null: the TensorFlow version that wrote the model")
    memory_limit: Annotated[str, Field(pattern=r"^[1-9][0-9]*[mg]$")] = Field("4g", description="of the container, in m or g; above it the container is restarted")
    batching: bool = Field(False, description="TensorFlow Serving runs waiting requests together; for clients that all send images of one size. Triton always does, and only what is of one size")
    max_batch_size: PositiveInt = Field(8, description="images in one batch")
    batch_timeout_ms: PositiveFloat = Field(2.0, description="longest wait for a batch to fill")
    triton: Triton = Triton()
    kserve: KServe = KServe()

    @model_validator(mode="after")
    def _different_ports(self):
        return _with_different_ports(self, "rest_port", "grpc_port")
