"""What a user can answer where photos do not tell."""

from enum import StrEnum


class Untagged(StrEnum):
    """As `data.untagged`."""

    leave_out = "leave_out"
    background = "background"


class Device(StrEnum):
    """What a run computes on."""

    cpu = "cpu"
    gpu = "gpu"
