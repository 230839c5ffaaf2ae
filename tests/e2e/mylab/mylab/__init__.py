"""A package of one's own: the example of docs/adding.md."""
