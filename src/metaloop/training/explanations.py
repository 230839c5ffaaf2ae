"""What a learner says about itself, kept in the run directory for the report."""

from pathlib import Path

from metaloop.data.distribution import TaskDistribution
from metaloop.learners.learner import Explains, Learner
from metaloop.records.explanations import KeptExplanation, write_explanation


def save_explanation(directory: Path, learner: Learner, distribution: TaskDistribution) -> bool:
    """Write what the learner says when it has all examples as its support set; return False if it says nothing."""
    named = distribution.all_examples() if isinstance(learner, Explains) else None
    if named is None:
        return False
    assert isinstance(learner, Explains)
    explanation = learner.explain(named.examples, named.features, named.outputs)
    examples = int(named.examples.y.shape[1])
    write_explanation(directory, KeptExplanation(examples, explanation.importances, tuple(explanation.tree)))
    return True
