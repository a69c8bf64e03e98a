"""What every training stage declares: it runs on all workers, and these modules make its result."""

from collections.abc import Callable

from ..engine.context import Context
from ..engine.stage import Stage

CODE = (
    "tfwsss_pipelines.stages.train",
    "tfwsss.training",
    "tfwsss.stack",
    "tfwsss.models",
    "tfwsss.weights",
    "tfwsss.normalization",
    "tfwsss.data.inputs",
    "tfwsss.data.augment",
    "tfwsss.data.changes",
)


def training_stage(
    name: str,
    run: Callable[[Context], dict[str, float]],
    *,
    labelling: bool = False,
    needs: tuple[str, ...] = (),
    switches: tuple[str, ...] = (),
    code: tuple[str, ...] = (),
) -> Stage:
    """A stage that trains one network on the training photos.

    Args:
        name: of the stage, of its module, and of its section in the configuration.
        run: see `Stage`; it calls `tfwsss_pipelines.stages.train.train_stage`.
        labelling, needs: see `Stage`.
        switches: names in the configuration's section `switches` that can change its result.
        code: modules besides its own and `CODE` whose source can change its result.
    """
    return Stage(
        name=name,
        run=run,
        tensorflow=True,
        all_workers=True,
        labelling=labelling,
        needs=needs,
        data=("train",),
        settings=("seed", name, *(f"switches.{switch}" for switch in switches)),
        code=(f"tfwsss_pipelines.stages.{name}", *CODE, *code),
    )
