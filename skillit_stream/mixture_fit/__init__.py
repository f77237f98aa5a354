"""A static mixture fitted to a table of runs: ``skillit mix fit RATIOS METRICS`` or ``skillit mix fit --runs RUN ...``.

Many small runs, each on a mixture of its own, give a table of mixtures and a table of metrics. A *law* is fitted
to them, one for each metric, and the mixture with the lowest predicted target is searched for.

In go a CSV of mixtures and a CSV of metrics, or the logs of run folders (`RunTable`), and `FitOptions`: the law, the
target, the tokens of each skill, limits on passes, an old mixture to keep. Out comes a `MixtureFit`: the mixture, what
it is predicted to reach, how well the law predicts runs it was not fitted to, and warnings; printed, as JSON, or as the
part of a training YAML that sets it::

    fit = fit_mixture(read_runs('ratios.csv', 'metrics.csv'), FitOptions(law='regmix'))
    fit.mixture                                                        # float64 [k], in the order of fit.skills

Words: a *metric* is better when lower; the *target* is the weighted mean of metrics that is lowered; the *natural*
mixture is proportional to the tokens there are; the *pull* holds the result near it; *passes* are how often the real
run walks a skill's tokens; *groups* are what is fitted, each a skill or the kept skills as one.
In the files::

    tables.py     the two CSV files -> `RunTable`
    run_logs.py   the logs of runs -> `RunTable`
    laws.py       mixture -> metric: the laws, their formulas and their sources
    groups.py     what is fitted: every skill, or the changed ones and the kept rest as one (mixture reuse)
    simplex.py    minimising over mixtures whose proportions have upper limits
    options.py    `FitOptions`, checked
    limits.py     limits on passes
    search.py     the laws' mixture: by convex optimisation or by simulation
    quality.py    how well the fit predicts runs it has not seen
    fitting.py    `fit_mixture`: all of it, and the warnings in words
    regmix_d.py   policy `regmix_d`: a fit to all stages of the runs, searched in each round
    output.py     tables, JSON, YAML
    command.py    `skillit mix fit`

NumPy and SciPy, and LightGBM where ``regmix-trees`` asks for it.
"""

from skillit_stream.mixture_fit.fitting import MixtureFit, fit_mixture
from skillit_stream.mixture_fit.options import FitOptions
from skillit_stream.mixture_fit.run_logs import read_run_logs
from skillit_stream.mixture_fit.tables import RunTable, read_runs

__all__ = ['FitOptions', 'MixtureFit', 'RunTable', 'fit_mixture', 'read_run_logs', 'read_runs']
