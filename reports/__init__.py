"""Reports of finished runs: Table 1, figures, statistics and the HTML page.

`reports.write.write_report` reads a run folder. `run_data.data_sets` gives a view of each data set and split, and every
table, statistic and figure computes its values from that view first and prints or draws them second.
"""
