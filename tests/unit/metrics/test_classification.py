"""Episode scores against scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn import metrics

from metaloop.errors import UserError
from metaloop.metrics.classification import area_under_roc, calibration_error, episode_scores


def _episodes(tasks: int, queries: int, ways: int) -> tuple[torch.Tensor, torch.Tensor]:
    logits = torch.randn(tasks, queries, ways, generator=torch.Generator().manual_seed(tasks))
    labels = torch.randint(ways, (tasks, queries), generator=torch.Generator().manual_seed(ways))
    return logits + 1.5 * torch.nn.functional.one_hot(labels, ways), labels


def _oracle(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    guesses, exact = logits.argmax(-1), logits.astype(np.float64)
    probabilities = np.exp(exact) / np.exp(exact).sum(-1, keepdims=True)
    return {
        "score": metrics.accuracy_score(labels, guesses),
        "loss": metrics.log_loss(labels, probabilities, labels=range(logits.shape[-1])),
        "recall": metrics.recall_score(labels, guesses, average="macro", zero_division=0),
        "f1": metrics.f1_score(labels, guesses, average="macro", zero_division=0),
    }


@pytest.mark.filterwarnings("ignore:Recall is ill-defined")
@pytest.mark.parametrize("ways", [2, 5, 20])
@pytest.mark.parametrize("masked", [False, True])
def test_every_episode_equals_scikit_learn(ways: int, masked: bool) -> None:
    logits, labels = _episodes(12, 15, ways)
    mask = torch.rand(labels.shape) < 0.6 if masked else None
    scores = episode_scores(logits, labels, mask)
    assert list(scores) == ["score", "loss", "recall", "f1"]
    for task in range(len(labels)):
        real = mask[task].numpy() if mask is not None else slice(None)
        oracle = _oracle(logits[task].numpy()[real], labels[task].numpy()[real])
        assert {name: float(values[task]) for name, values in scores.items()} == pytest.approx(oracle, rel=1e-5)


def test_masked_queries_and_missing_classes_change_nothing() -> None:
    logits, labels = _episodes(4, 10, 3)
    plain = episode_scores(logits, labels)
    padded_logits = torch.full((4, 16, 5), -torch.inf)
    padded_logits[:, :10, :3] = logits
    padded_logits[:, 10:, 4] = 0.0
    padded_labels = torch.cat([labels, torch.full((4, 6), 3)], 1)
    padded = episode_scores(padded_logits, padded_labels, torch.arange(16).expand(4, -1) < 10)
    for name, values in plain.items():
        torch.testing.assert_close(padded[name], values)


def test_half_precision_logits_are_scored_in_float32() -> None:
    logits, labels = _episodes(3, 10, 5)
    assert {values.dtype for values in episode_scores(logits.bfloat16(), labels).values()} == {torch.float32}
    assert episode_scores(logits.double(), labels)["loss"].dtype == torch.float64


def _binned_error(probabilities: np.ndarray, labels: np.ndarray, bins: int) -> float:
    sure, right = probabilities.max(-1), probabilities.argmax(-1) == labels
    which = np.minimum((sure * bins).astype(int), bins - 1)
    return sum(abs(right[which == b].mean() - sure[which == b].mean()) * (which == b).mean() for b in set(which))


@pytest.mark.parametrize("bins", [5, 15])
def test_calibration_error_equals_the_definition(bins: int) -> None:
    logits, labels = _episodes(20, 25, 5)
    probabilities = logits.softmax(-1)
    expected = _binned_error(probabilities.flatten(0, 1).numpy(), labels.flatten().numpy(), bins)
    assert calibration_error(probabilities, labels, bins=bins) == pytest.approx(expected, abs=1e-6)
    mask = torch.rand(labels.shape) < 0.5
    expected = _binned_error(probabilities[mask].numpy(), labels[mask].numpy(), bins)
    assert calibration_error(probabilities, labels, mask, bins) == pytest.approx(expected, abs=1e-6)


def test_calibration_error_at_its_ends() -> None:
    labels = torch.arange(4) % 2
    sure = torch.nn.functional.one_hot(labels, 2).float()
    assert calibration_error(sure, labels) == 0.0
    assert calibration_error(sure, 1 - labels) == 1.0
    assert calibration_error(sure * (1 + 1e-6), labels) == 0.0  # rounding above 1 is no logit


def test_what_does_not_fit_is_refused() -> None:
    logits, labels = _episodes(2, 4, 3)
    with pytest.raises(ValueError, match=r"\(2, 4, 3\), \(2, 3\)"):
        episode_scores(logits, labels[:, :3])
    with pytest.raises(ValueError, match="shapes"):
        episode_scores(logits, labels, torch.ones(2, 1, dtype=torch.bool))
    with pytest.raises(UserError, match=r"episode\.ways=1"):
        episode_scores(logits[..., :1], labels)
    with pytest.raises(ValueError, match="sum to 1"):
        calibration_error(logits, labels)


def test_the_area_under_the_roc_curve_is_scikit_learns() -> None:
    generator = torch.Generator().manual_seed(0)
    positive, negative = (torch.randint(0, 6, (4, n), generator=generator).float() for n in (9, 5))  # ties abound
    mask = torch.rand(4, 9, generator=generator) < 0.7
    for real in (None, mask):
        kept = [row if real is None else row[real[k]] for k, row in enumerate(positive)]
        truth = [[1] * len(row) + [0] * 5 for row in kept]
        expected = [metrics.roc_auc_score(y, torch.cat([row, n])) for y, row, n in zip(truth, kept, negative, strict=True)]
        assert area_under_roc(positive, negative, real).tolist() == pytest.approx(expected)
