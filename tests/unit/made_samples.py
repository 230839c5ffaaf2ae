"""Made-up contents of samples.npz."""

import numpy as np


def image_samples(ways: int = 5, shots: int = 1, queries: int = 3, channels: int = 1) -> dict[str, np.ndarray]:
    """An episode of blobs, one place a class, with one wrong answer."""
    draw = np.random.default_rng(5)
    grid = np.linspace(-1, 1, 28)

    def images(labels: np.ndarray) -> np.ndarray:
        angle = 2 * np.pi * labels / ways + draw.normal(0, 0.15, len(labels))
        x, y = 0.5 * np.cos(angle), 0.5 * np.sin(angle)
        far = (grid[None, None] - x[:, None, None]) ** 2 + (grid[None, :, None] - y[:, None, None]) ** 2
        return np.repeat(np.exp(-8 * far)[:, None], channels, 1).astype(np.float32)

    support_y, query_y = (np.repeat(np.arange(ways), count) for count in (shots, queries))
    logits = 4.0 * np.eye(ways)[query_y] + draw.normal(0, 0.6, (len(query_y), ways))
    logits[1, 2] += 9.0
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    arrays = {"support_x": images(support_y), "support_y": support_y, "query_x": images(query_y), "query_y": query_y}
    return {**arrays, "probabilities": probabilities, "index": np.array(17)}


def function_samples(tasks: int = 3) -> dict[str, np.ndarray]:
    """Sinusoids with a bad guess before and a good one after adaptation."""
    draw, grid = np.random.default_rng(6), np.linspace(-5, 5, 100)
    amplitude, phase = draw.uniform(0.5, 5, (tasks, 1)), draw.uniform(0, np.pi, (tasks, 1))
    true = amplitude * np.sin(grid - phase)
    x = draw.uniform(-5, 5, (tasks, 10))
    return {
        "grid": grid,
        "true": true,
        "support_x": x,
        "support_y": amplitude * np.sin(x - phase),
        "before": np.broadcast_to(np.sin(grid), true.shape) * 0.8,
        "after": true + 0.15 * np.cos(3 * grid),
    }


def band_samples(tasks: int = 3) -> dict[str, np.ndarray]:
    """The same with predictive bands, and support points that are not real."""
    samples = function_samples(tasks)
    del samples["before"]
    mean = samples.pop("after")
    samples["support_x"][:, 6:] = samples["support_y"][:, 6:] = np.nan
    return {**samples, "mean": mean, "low": mean - 1.0, "high": mean + 1.0}
