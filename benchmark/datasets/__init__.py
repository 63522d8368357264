"""Datasets, the sources of pairs; builtin.py lists the built-in ones, and plugins register in the same way."""
