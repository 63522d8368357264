"""How cells are planned and run: on this machine or on a cluster, each in a process of its own."""
