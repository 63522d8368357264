"""The commands, one module each. `run_benchmark.py` holds their options and help."""
