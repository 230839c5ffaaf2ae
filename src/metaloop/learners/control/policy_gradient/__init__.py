"""Meta-learning whose inner steps are policy gradients on fresh episodes of a task."""
