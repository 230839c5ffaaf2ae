"""What happens before the first outer step: weights of another run, imports that are put off, and its time."""
