"""Ways to run jobs: `local` in processes on this machine, `ray` on a cluster.

An executor is a function of a queue of jobs. It starts them from the left, as many at once as there
is room for, and yields an `Outcome` for each as it ends. What is appended to the queue meanwhile is
run, too.
"""
