"""Many runs as one: what to run (plan), who runs what (ledger), and how they are launched."""
