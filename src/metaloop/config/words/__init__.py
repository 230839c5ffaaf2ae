"""What may be written in overrides: keys, values, and other words for them."""
