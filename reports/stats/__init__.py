"""Statistics of a run: tests, comparisons between rows, and the paper's claims."""
