"""Table 1: its values, its footnotes, and how it is printed."""
