"""Shared code of the benchmarks. Contestants also run in the peers' interpreter, so only `ours` may import metaloop there."""
