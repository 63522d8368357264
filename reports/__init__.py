"""From a run folder to Table 1, Fig. 2 and what stands around them.

`reports.write` is the way in. Everything else takes DataFrames, computes first and prints or draws second.
"""
