"""Forks a training process for every request: what is imported here, once, they need not import each.

Reads lines of JSON: ``{"environment": ..., "arguments": ..., "output": path}`` starts a process in a session of
its own and answers with its number; ``{"ended": number}`` answers with its exit code, or null while it runs.
With ``"folder": path`` it runs there. With ``"script": path`` it is the `main` of that file that is run, in
place of ``skillit_stream.train``. With ``"imports": [module, ...]`` these are imported here first.
"""

import atexit
import json
import os
import runpy
import sys
from importlib import import_module
from typing import Any

from composer.utils.collect_env import get_cpu_model
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

import skillit_stream.training.session  # noqa: F401 (imported for those that are forked)
from skillit_stream.train import main


def start(request: dict[str, Any]) -> int:
    """The number of a process that trains; it does not return there."""
    for module in request.get('imports', ()):
        import_module(module)
    process = os.fork()
    if process:
        return process
    os.setsid()
    os.environ.update(request['environment'])
    os.chdir(request.get('folder', '.'))
    output = os.open(request['output'], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    run = runpy.run_path(request['script'])['main'] if request['script'] else main
    code = run(request['arguments'])
    # The normal end of a process, but for the seconds in which the interpreter takes itself apart.
    atexit._run_exitfuncs()
    sys.stdout.flush()
    os._exit(code)


def ended(process: int) -> int | None:
    """The exit code of a process, None while it runs."""
    number, status = os.waitpid(process, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if number else None


if __name__ == '__main__':
    # What Composer does in every process: it imports all of these to build one, and asks for the processor.
    list(MODEL_FOR_CAUSAL_LM_MAPPING.values())
    get_cpu_model()
    for line in sys.stdin:
        asked = json.loads(line)
        print(json.dumps(ended(asked['ended']) if 'ended' in asked else start(asked)), flush=True)
