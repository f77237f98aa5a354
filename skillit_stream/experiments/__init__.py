"""Methods x seeds: plan the runs, train those that are not finished, say what came out.

config → planning → running → results → command
"""
