"""Meta-features of a table with classes: statistics, information theory and landmarks, each named and described."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from metaloop.errors import UserError

Array = np.ndarray
_BINS = 8  # quantiles into which a feature is divided for entropies
_ROWS = 500  # most rows that landmarks and correlations read, drawn with classes in their proportions
_FOLDS = 3  # of a landmark's cross-validation

STATISTICS: Mapping[str, str] = {
    "log_rows": "decimal logarithm of the number of rows",
    "log_features": "decimal logarithm of the number of features",
    "classes": "number of classes",
    "features_per_row": "number of features divided by the number of rows",
    "missing_share": "share of the values that are missing",
    "incomplete_rows": "share of the rows with a missing value",
    "binary_features": "share of the features with two values",
    "discrete_features": "share of the features with three to ten values",
    "constant_features": "share of the features with one value",
    "mean_skewness": "mean over features of the size of the skewness",
    "max_skewness": "largest size of a feature's skewness",
    "mean_kurtosis": "mean over features of the excess kurtosis, clipped at 100",
    "mean_correlation": "mean size of the correlation of two features",
    "max_correlation": "largest size of the correlation of two features",
    "outlier_share": "share of the values more than three standard deviations from the mean",
    "components_share": "share of the principal components that hold 90 % of the variance",
}
INFORMATION: Mapping[str, str] = {
    "class_entropy": "entropy of the classes, as a share of that of equally frequent ones",
    "majority_share": "share of the most frequent class",
    "minority_share": "share of the rarest class",
    "feature_entropy": "mean entropy of a feature's eight quantiles, in bits",
    "mean_mutual_information": "mean information of a feature on the class, as a share of the class entropy",
    "max_mutual_information": "information of the most informative feature, as a share of the class entropy",
    "equivalent_features": "class entropy divided by the mean mutual information, at most 1,000",
    "noise_to_signal": "entropy of features that says nothing on the class, per information that does, at most 1,000",
}
LANDMARKS: Mapping[str, str] = {
    "stump": "balanced accuracy of a tree with one split",
    "shallow_tree": "balanced accuracy of a tree of depth three",
    "nearest_neighbour": "balanced accuracy of the nearest neighbour",
    "naive_bayes": "balanced accuracy of naive Bayes with normal distributions",
    "linear": "balanced accuracy of linear discriminant analysis",
    "curvature": "balanced accuracy of the nearest neighbour minus that of linear discriminant analysis",
}
DESCRIPTIONS: Mapping[str, str] = {**STATISTICS, **INFORMATION, **LANDMARKS}


def meta_features(x: Array, y: Array, seed: int = 0) -> dict[str, float]:
    """Compute all meta-features of a table.

    Args:
        x: (rows, features), nan for missing values.
        y: (rows,) class numbers.
        seed: of the rows and folds that landmarks use.

    Returns:
        Finite values by the names of :data:`DESCRIPTIONS`.

    Raises:
        UserError: the table has one class, fewer than three rows of a class, no known value, or scikit-learn is not installed.
    """
    classes, labels, counts = np.unique(y, return_inverse=True, return_counts=True)
    if len(classes) < 2:
        raise UserError("the table has one class; meta-features describe a choice between two or more")
    if counts.min() < _FOLDS:
        raise UserError(
            f"class {classes[counts.argmin()]} has {counts.min()} rows; landmarks need at least {_FOLDS} of each class"
        )
    if np.isnan(x).all():
        raise UserError("the table has no known value in its feature columns")
    values = _statistics(x, len(classes)) | _information(x, labels, counts) | _landmarks(x, labels, seed)
    return {name: float(values[name]) for name in DESCRIPTIONS}


def _statistics(x: Array, classes: int) -> dict[str, float]:
    missing = np.isnan(x)
    distinct = np.array([len(np.unique(column[~np.isnan(column)])) for column in x.T])
    z = _standardized(x)
    skewness, kurtosis = np.abs((z**3).mean(0)), np.clip((z**4).mean(0) - 3, None, 100)
    varying = z[:, distinct > 1]
    correlation, components = _correlations(varying[:_ROWS])
    return {
        "log_rows": np.log10(len(x)),
        "log_features": np.log10(x.shape[1]),
        "classes": classes,
        "features_per_row": x.shape[1] / len(x),
        "missing_share": missing.mean(),
        "incomplete_rows": missing.any(1).mean(),
        "binary_features": (distinct == 2).mean(),
        "discrete_features": ((distinct > 2) & (distinct <= 10)).mean(),
        "constant_features": (distinct <= 1).mean(),
        "mean_skewness": skewness.mean(),
        "max_skewness": skewness.max(),
        "mean_kurtosis": kurtosis.mean(),
        "mean_correlation": correlation.mean() if len(correlation) else 0.0,
        "max_correlation": correlation.max() if len(correlation) else 0.0,
        "outlier_share": (np.abs(z) > 3).mean(),
        "components_share": components,
    }


def _standardized(x: Array) -> Array:
    """Features with mean 0 and variance 1; missing values are 0, and so are constant features."""
    known = ~np.isnan(x)
    count = np.maximum(known.sum(0), 1)
    centered = np.where(known, x - np.where(known, x, 0).sum(0) / count, 0.0)
    scale = np.sqrt((centered**2).sum(0) / count)
    return np.where(scale > 1e-12 * np.abs(np.where(known, x, 0)).max(0), centered / np.where(scale > 0, scale, 1.0), 0.0)


def _correlations(z: Array) -> tuple[Array, float]:
    """Sizes of the correlations of all pairs of features, and the share of components with 90 % of the variance."""
    if z.shape[1] < 2:
        return np.zeros(0), 1.0
    gram = z.T @ z
    size = np.sqrt(np.maximum(np.diag(gram), 1e-12))
    correlation = np.abs(gram / size / size[:, None])[np.triu_indices(len(gram), 1)]
    spectrum = np.sort(np.linalg.svd(z, compute_uv=False) ** 2)[::-1].cumsum()
    needed = int(np.searchsorted(spectrum, 0.9 * spectrum[-1])) + 1
    return np.clip(correlation, 0.0, 1.0), needed / z.shape[1]


def _information(x: Array, labels: Array, counts: Array) -> dict[str, float]:
    shares = counts / counts.sum()
    entropy = _entropy(shares)
    places = np.stack([_bins(column) for column in x.T], 1)
    joint = [np.bincount(column * len(counts) + labels, minlength=(_BINS + 1) * len(counts)) / len(x) for column in places.T]
    tables = [each.reshape(_BINS + 1, len(counts)) for each in joint]
    own = np.array([_entropy(table.sum(1)) for table in tables])
    mutual = np.array([max(0.0, e + entropy - _entropy(table.ravel())) for e, table in zip(own, tables, strict=True)])
    mean = max(float(mutual.mean()), 1e-9)
    return {
        "class_entropy": entropy / np.log2(len(counts)),
        "majority_share": shares.max(),
        "minority_share": shares.min(),
        "feature_entropy": own.mean(),
        "mean_mutual_information": mutual.mean() / entropy,
        "max_mutual_information": mutual.max() / entropy,
        "equivalent_features": min(entropy / mean, 1000.0),
        "noise_to_signal": min(max(0.0, own.mean() - mean) / mean, 1000.0),
    }


def _entropy(shares: Array) -> float:
    """Entropy in bits."""
    positive = shares[shares > 0]
    return float(-(positive * np.log2(positive)).sum())


def _bins(column: Array) -> Array:
    """Number of the quantile of each value, or of the value if there are few; missing values have one of their own."""
    known = ~np.isnan(column)
    values = column[known]
    distinct = np.unique(values)
    edges = distinct[1:] if len(distinct) <= _BINS else np.unique(np.quantile(values, np.arange(1, _BINS) / _BINS))
    places = np.full(len(column), _BINS)
    places[known] = np.searchsorted(edges, values, "right")
    return places


def _landmarks(x: Array, labels: Array, seed: int) -> dict[str, float]:
    try:
        from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
        from sklearn.naive_bayes import GaussianNB
        from sklearn.neighbors import KNeighborsClassifier
        from sklearn.tree import DecisionTreeClassifier
    except ImportError as error:
        raise UserError("landmarks need scikit-learn: pip install scikit-learn") from error
    rows = _sample(labels, seed)
    z, y = _standardized(x[rows]), labels[rows]
    z = z[:, (z != 0).any(0)] if (z != 0).any() else z
    learners: Mapping[str, Callable[[], Any]] = {
        "stump": lambda: DecisionTreeClassifier(max_depth=1, random_state=seed),
        "shallow_tree": lambda: DecisionTreeClassifier(max_depth=3, random_state=seed),
        "nearest_neighbour": lambda: KNeighborsClassifier(1),
        "naive_bayes": lambda: GaussianNB(var_smoothing=1e-3),
        "linear": lambda: LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.1),
    }
    values = {name: _cross_validated(make, z, y, seed) for name, make in learners.items()}
    return {**values, "curvature": values["nearest_neighbour"] - values["linear"]}


def _sample(labels: Array, seed: int) -> Array:
    """At most 500 rows with classes in their proportions, at least three of each."""
    random = np.random.default_rng(seed)
    share = min(1.0, _ROWS / len(labels))
    chosen = []
    for label in np.unique(labels):
        members = random.permutation(np.flatnonzero(labels == label))
        chosen.append(members[: max(_FOLDS, round(share * len(members)))])
    return np.sort(np.concatenate(chosen))


def _cross_validated(make: Callable[[], Any], z: Array, y: Array, seed: int) -> float:
    """Balanced accuracy over stratified folds."""
    from sklearn.model_selection import StratifiedKFold

    answers = np.empty_like(y)
    for train, test in StratifiedKFold(_FOLDS, shuffle=True, random_state=seed).split(z, y):
        answers[test] = make().fit(z[train], y[train]).predict(z[test])
    return float(np.mean([(answers[y == label] == label).mean() for label in np.unique(y)]))
