"""Methods x seeds: plan the runs, learn their graph, train those that are not finished, say what came out.

config → planning → running → learned_graph → results → command
"""
