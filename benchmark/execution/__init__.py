"""Planning and running of cells, on this machine or on a cluster; every method runs in a process of its own."""
