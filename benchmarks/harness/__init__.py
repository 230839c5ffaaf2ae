"""What the benchmarks share. A contestant runs in the peers' interpreter too, so only `ours` imports metaloop."""
