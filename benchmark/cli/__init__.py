"""The commands' bodies, a module each. `run_benchmark.py` holds their signatures."""
