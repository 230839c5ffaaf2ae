"""Tasks of finished runs in environments, played again."""
