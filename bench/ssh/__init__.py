"""bbctl's transport beside its peers, on the same hosts in the same run: `python -m bench.ssh`."""
