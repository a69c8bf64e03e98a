"""What one optimiser step does, in numbers: the same on both stacks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ADAM_BETA_1, ADAM_BETA_2, ADAM_EPSILON = 0.9, 0.999, 1e-8


@dataclass(frozen=True)
class ParameterGroup:
    """Multiplier of the learning rate and decay factor of one variable."""

    multiplier: float
    weight_decay: float


@dataclass(frozen=True)
class Rule:
    """SGD: ``v = momentum * v + g; w -= rate * v`` (PyTorch's form); Adam as published.

    Attributes:
        name: of the rule.
        momentum: of SGD.
        decay: "coupled" adds ``weight_decay * w`` to the gradient (L2); "decoupled" shrinks the weight by
            ``rate * weight_decay`` before the step (SGDW and AdamW, Loshchilov & Hutter 2019).
    """

    name: Literal["sgd", "adam"]
    momentum: float
    decay: Literal["coupled", "decoupled"]
