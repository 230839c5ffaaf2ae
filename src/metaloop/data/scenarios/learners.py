"""The learners of scikit-learn with settings that the shipped scenario knows."""

from collections.abc import Mapping
from typing import Any

from metaloop.errors import UserError

# Settings as one types them in Python, by the name in the scenario.
LEARNERS: Mapping[str, str] = {
    "logistic_regression": "LogisticRegression(C=1.0, max_iter=1000)",
    "logistic_regression_regularized": "LogisticRegression(C=0.01, max_iter=1000)",
    "linear_discriminant": "LinearDiscriminantAnalysis(solver='lsqr', shrinkage='auto')",
    "nearest_neighbours": "KNeighborsClassifier(n_neighbors=5)",
    "nearest_neighbours_weighted": "KNeighborsClassifier(n_neighbors=20, weights='distance')",
    "naive_bayes": "GaussianNB(var_smoothing=1e-3)",
    "decision_tree": "DecisionTreeClassifier(min_samples_leaf=5, random_state=0)",
    "random_forest": "RandomForestClassifier(n_estimators=100, random_state=0)",
    "extra_trees": "ExtraTreesClassifier(n_estimators=100, random_state=0)",
    "extra_trees_regularized": "ExtraTreesClassifier(n_estimators=100, min_samples_leaf=5, random_state=0)",
    "boosted_trees": "HistGradientBoostingClassifier(max_iter=60, random_state=0)",
    "boosted_trees_shallow": "HistGradientBoostingClassifier(max_iter=60, max_leaf_nodes=4, random_state=0)",
}


def make_learner(name: str) -> Any:
    """Make a learner with its settings, after medians for missing values and features in standard deviations.

    Raises:
        UserError: the name is unknown, or scikit-learn is not installed.
    """
    if name not in LEARNERS:
        raise UserError(f"there is no learner {name!r}; learners: {', '.join(LEARNERS)}")
    try:
        from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
        from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier, RandomForestClassifier
        from sklearn.impute import SimpleImputer
        from sklearn.linear_model import LogisticRegression
        from sklearn.naive_bayes import GaussianNB
        from sklearn.neighbors import KNeighborsClassifier
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
        from sklearn.tree import DecisionTreeClassifier
    except ImportError as error:
        raise UserError("the learners need scikit-learn: pip install scikit-learn") from error
    made = {
        "logistic_regression": lambda: LogisticRegression(C=1.0, max_iter=1000),
        "logistic_regression_regularized": lambda: LogisticRegression(C=0.01, max_iter=1000),
        "linear_discriminant": lambda: LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"),
        "nearest_neighbours": lambda: KNeighborsClassifier(n_neighbors=5),
        "nearest_neighbours_weighted": lambda: KNeighborsClassifier(n_neighbors=20, weights="distance"),
        "naive_bayes": lambda: GaussianNB(var_smoothing=1e-3),
        "decision_tree": lambda: DecisionTreeClassifier(min_samples_leaf=5, random_state=0),
        "random_forest": lambda: RandomForestClassifier(n_estimators=100, random_state=0),
        "extra_trees": lambda: ExtraTreesClassifier(n_estimators=100, random_state=0),
        "extra_trees_regularized": lambda: ExtraTreesClassifier(n_estimators=100, min_samples_leaf=5, random_state=0),
        "boosted_trees": lambda: HistGradientBoostingClassifier(max_iter=60, random_state=0),
        "boosted_trees_shallow": lambda: HistGradientBoostingClassifier(max_iter=60, max_leaf_nodes=4, random_state=0),
    }[name]()
    return make_pipeline(SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler(), made)
