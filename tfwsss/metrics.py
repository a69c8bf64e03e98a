"""Scores against ground truth: confusion matrix and IoU, the curve over background thresholds, average precision. numpy only."""

import numpy as np

from tfwsss.errors import DataError
from tfwsss.storage.artifacts import IGNORE


class ConfusionMatrix:
    """Counts of (true label, predicted label) over a data set; pixels whose true label is 255 are left out.

    Args:
        num_classes: number of labels, *including* background.

    Attributes:
        counts: int64 [num_classes, num_classes], row = true label, column = prediction.
    """

    def __init__(self, num_classes: int):
        if num_classes < 1:
            raise ValueError(f"num_classes: expected at least 1, found {num_classes}")
        self.num_classes = int(num_classes)
        self.counts = np.zeros((self.num_classes, self.num_classes), np.int64)

    def update(self, label, prediction) -> "ConfusionMatrix":
        """Add pixels.

        Args:
            label: integers of any shape, 0..num_classes-1 or 255.
            prediction: integers of the same shape, 0..num_classes-1 wherever the label is not 255.

        Raises:
            DataError: shapes differ or a value is out of range.
        """
        label, prediction = np.asarray(label), np.asarray(prediction)
        if label.shape != prediction.shape:
            raise DataError(f"label has shape {list(label.shape)}, prediction {list(prediction.shape)}")
        known = label != IGNORE
        label = _checked(label[known], self.num_classes, "label")
        prediction = _checked(prediction[known], self.num_classes, "prediction")
        pairs = np.bincount(label * self.num_classes + prediction, minlength=self.num_classes**2)
        self.counts += pairs.reshape(self.counts.shape)
        return self

    def merge(self, other: "ConfusionMatrix") -> "ConfusionMatrix":
        """Add another matrix of the same number of labels (from another worker)."""
        if other.num_classes != self.num_classes:
            raise ValueError(f"cannot merge a matrix of {other.num_classes} labels into one of {self.num_classes}")
        self.counts += other.counts
        return self

    def iou(self) -> np.ndarray:
        """Intersection over union per label, float64 [num_classes]; nan where a label is neither true nor predicted."""
        hits = np.diag(self.counts)
        return _ratio(hits, self.counts.sum(axis=0) + self.counts.sum(axis=1) - hits)

    def miou(self) -> float:
        """Mean IoU over the labels that occur (true or predicted); nan without any pixel."""
        iou = self.iou()
        return float(iou[~np.isnan(iou)].mean()) if not np.isnan(iou).all() else float("nan")

    def pixel_accuracy(self) -> float:
        """Part of the pixels that is right; nan without any pixel."""
        return float(_ratio(np.trace(self.counts), self.counts.sum()))

    def frequency(self) -> np.ndarray:
        """Part of the pixels with each true label, float64 [num_classes]."""
        return _ratio(self.counts.sum(axis=1), self.counts.sum())


class LabelSweep:
    """Confusion matrices of label maps that differ only in which pixels are background, in one pass over the data.

    Args:
        num_classes: number of labels, including background.
        steps: number of label maps. From each to the next, pixels may become background, and none anything else.
    """

    def __init__(self, num_classes: int, steps: int):
        self.num_classes, self.steps = int(num_classes), int(steps)
        # [in how many of the label maps the pixel is foreground, true label, label where it is]
        self._counts = np.zeros((self.steps + 1, self.num_classes, self.num_classes), np.int64)

    def add(self, label, winner, kept) -> "LabelSweep":
        """Add one photo.

        Args:
            label: [H, W] true labels; 255 is left out.
            winner: [H, W] the label of each pixel in the label maps in which it is foreground.
            kept: [H, W] in how many that is, counted from the first, 0..steps.

        Raises:
            DataError: shapes differ or a value is out of range.
        """
        label, winner, kept = np.asarray(label), np.asarray(winner), np.asarray(kept)
        if not label.shape == winner.shape == kept.shape:
            raise DataError(f"label has shape {list(label.shape)}, winner {list(winner.shape)}, kept {list(kept.shape)}")
        known = label != IGNORE
        truth = _checked(label[known], self.num_classes, "label")
        winner, kept = _checked(winner[known], self.num_classes, "winner"), _checked(kept[known], self.steps + 1, "kept")
        index = (kept * self.num_classes + truth) * self.num_classes + winner
        self._counts += np.bincount(index, minlength=self._counts.size).reshape(self._counts.shape)
        return self

    def merge(self, other: "LabelSweep") -> "LabelSweep":
        """Add another sweep of as many steps and labels (from another worker)."""
        if other._counts.shape != self._counts.shape:
            raise ValueError("cannot merge sweeps over different steps or labels")
        self._counts += other._counts
        return self

    def matrices(self) -> list[ConfusionMatrix]:
        """One confusion matrix for each label map."""
        result = []
        for index in range(self.steps):
            matrix = ConfusionMatrix(self.num_classes)
            matrix.counts += self._counts[index + 1 :].sum(axis=0)
            matrix.counts[:, 0] += self._counts[: index + 1].sum(axis=(0, 2))
            result.append(matrix)
        return result

    def miou(self) -> np.ndarray:
        """Mean IoU of every label map, float64 [steps]."""
        return np.array([matrix.miou() for matrix in self.matrices()])


class ThresholdSweep(LabelSweep):
    """mIoU of class activation maps at many background thresholds, in one pass over the data.

    Equal to one `ConfusionMatrix` per threshold fed by `tfwsss.cam.predict_label`. For background exponents give
    ``[threshold_of_alpha(a) for a in alphas]``.

    Args:
        num_classes: number of labels, including background.
        thresholds: CAM values in 0..1; kept in ascending order.
    """

    def __init__(self, num_classes: int, thresholds):
        self.thresholds = np.unique(np.asarray(thresholds, np.float32))
        if self.thresholds.size == 0:
            raise ValueError("thresholds: expected at least one")
        super().__init__(num_classes, self.thresholds.size)

    def update(self, label, classes, cam) -> "ThresholdSweep":
        """Add one photo: label [H, W] (255 is left out), classes [K], cam [K, H, W] in 0..1 (K = 0: all background).

        Raises:
            DataError: shapes differ or a label is out of range.
        """
        label, cam = np.asarray(label), np.asarray(cam, np.float32)
        if cam.ndim != 3 or cam.shape[0] != len(classes) or cam.shape[1:] != label.shape:
            raise DataError(f"cam: expected [{len(classes)}, *{list(label.shape)}], found {list(cam.shape)}")
        if len(classes) == 0:
            winner = below = np.zeros(label.shape, np.int64)
        else:
            winner = (np.asarray(classes) + 1)[cam.argmax(axis=0)]
            below = np.searchsorted(self.thresholds, cam.max(axis=0), side="left")
        self.add(label, winner, below)
        return self

    def merge(self, other: "LabelSweep") -> "ThresholdSweep":
        """Add another sweep over the same thresholds and labels."""
        if not isinstance(other, ThresholdSweep) or not np.array_equal(other.thresholds, self.thresholds):
            raise ValueError("cannot merge sweeps over different thresholds")
        super().merge(other)
        return self

    def best(self) -> tuple[float, float]:
        """(threshold, mIoU) of the best threshold.

        Raises:
            DataError: no pixel was added.
        """
        curve = self.miou()
        if np.isnan(curve).all():
            raise DataError("the threshold sweep is empty: no labelled pixel was added")
        index = int(np.nanargmax(curve))
        return float(self.thresholds[index]), float(curve[index])


class AveragePrecision:
    """Average precision of a multi-label classifier, per class and mean (mAP).

    The area under the precision-recall steps without interpolation; equal scores are ranked together.

    Args:
        num_classes: number of classes, without background.
    """

    def __init__(self, num_classes: int):
        self.num_classes = int(num_classes)
        self._scores: list[np.ndarray] = []
        self._tags: list[np.ndarray] = []
        self._known: list[np.ndarray] = []

    def update(self, scores, tags, known=None) -> "AveragePrecision":
        """Add photos: scores [B, C] (logits or probabilities), tags [B, C] multi-hot, known [B, C]: 0 where nobody knows the tag.

        What is not known is not ranked. None: all tags are known.

        Raises:
            DataError: shapes are wrong or a score is not finite.
        """
        scores, tags = np.asarray(scores, np.float64), np.asarray(tags) > 0
        if scores.ndim != 2 or scores.shape[1] != self.num_classes or tags.shape != scores.shape:
            raise DataError(
                f"expected scores and tags [B, {self.num_classes}], found {list(scores.shape)} and {list(tags.shape)}"
            )
        if not np.isfinite(scores).all():
            raise DataError("scores: expected finite numbers, found NaN or infinity")
        self._scores.append(scores)
        self._tags.append(tags)
        self._known.append(np.ones(scores.shape, bool) if known is None else np.broadcast_to(np.asarray(known) > 0, scores.shape))
        return self

    def per_class(self) -> np.ndarray:
        """Average precision, float64 [C]; nan for classes without a positive."""
        result = np.full(self.num_classes, np.nan)
        if not self._scores:
            return result
        scores, tags, known = (np.concatenate(parts) for parts in (self._scores, self._tags, self._known))
        for index in np.flatnonzero((tags & known).any(axis=0)):
            photos = np.flatnonzero(known[:, index])
            order = photos[np.argsort(-scores[photos, index], kind="stable")]
            ranked, hit = scores[order, index], tags[order, index]
            last_of_tie = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
            hits = np.cumsum(hit)[last_of_tie]
            precision = hits / (last_of_tie + 1.0)
            result[index] = (np.diff(hits, prepend=0) * precision).sum() / hits[-1]
        return result

    def mean(self) -> float:
        """mAP over the classes with a positive; nan without any."""
        values = self.per_class()
        return float(values[~np.isnan(values)].mean()) if not np.isnan(values).all() else float("nan")


def area_under_roc(scores, positive) -> float:
    """The chance that a positive photo scores above a negative one, equal scores counting half.

    Args:
        scores: float [B].
        positive: bool [B].

    Returns:
        0..1; nan without photos of both kinds.
    """
    scores, positive = np.asarray(scores, np.float64), np.asarray(positive, bool)
    if positive.all() or not positive.any():
        return float("nan")
    below = np.sort(scores[~positive])
    wins = np.searchsorted(below, scores[positive], side="left") + np.searchsorted(below, scores[positive], side="right")
    return float(wins.mean() / 2 / below.size)


def _checked(values, limit: int, name: str) -> np.ndarray:
    values = np.asarray(values).astype(np.int64)
    if values.size and (values.min() < 0 or values.max() >= limit):
        found = values.min() if values.min() < 0 else values.max()
        hint = " (mark ignored predictions in the label instead)" if name == "prediction" and found == IGNORE else ""
        raise DataError(f"{name}: expected 0..{limit - 1}, found {found}{hint}")
    return values


def _ratio(part, whole) -> np.ndarray:
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    return np.divide(part, whole, out=np.full(np.broadcast(part, whole).shape, np.nan), where=whole > 0)
