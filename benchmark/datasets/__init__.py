"""Datasets: one module for each. builtin.py registers the built-in ones; others register the same way."""
