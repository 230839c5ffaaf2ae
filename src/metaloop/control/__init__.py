"""Control: environments as distributions of tasks, policies that act in them, and rollouts."""
