"""The figures: each computes its data first and draws it second."""
