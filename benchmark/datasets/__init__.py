"""Where pairs come from. Built-in datasets by name (builtin.py); others register the same way."""
