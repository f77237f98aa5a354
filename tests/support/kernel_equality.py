"""A model on fused kernels beside the same model on eager ones: loss, gradients, sums by skill, evaluation.

Run as a script it compares Liger's kernels on a CPU, in Triton's interpreter, and prints what it found as JSON;
its arguments are model types and the precision, e.g. ``llama gpt_neox float32``.
"""

import json
import os
import sys
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

SKILLS = 2


def interpret_triton() -> None:
    """Let Liger's kernels run on a CPU; must come before anything imports Triton.

    The interpreter of Triton 3.3 has no driver to measure kernels with, takes a number as a Python float where a
    compiled kernel sees a scalar of Triton, and does not know the functions of libdevice. It computes products of
    bfloat16 as if they were integers: half precision is float16 here.
    """
    os.environ['TRITON_INTERPRET'] = '1'
    import numpy as np
    from triton import language as tl
    from triton.runtime import driver, interpreter

    driver.set_active(SimpleNamespace(get_benchmarker=lambda: None))  # pyright: ignore[reportArgumentType]
    convert = interpreter._implicit_cvt

    def convert_floats_too(value: Any) -> Any:
        if not isinstance(value, float):
            return convert(value)
        handle = interpreter.TensorHandle(np.array([value], np.float32), tl.float32)
        return tl.tensor(handle, tl.float32)

    interpreter._implicit_cvt = convert_floats_too
    from liger_kernel.ops import layer_norm, rms_norm  # pyright: ignore[reportMissingImports]

    layer_norm.rsqrt = rms_norm.rsqrt = lambda value: 1.0 / tl.sqrt(value)


def twins(kind: str, machine: Any, asked: str = 'auto') -> tuple[Any, Any]:
    """A small model of this type on eager kernels and on those chosen for a machine, with the same weights."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from skillit_stream import SkillLossModel
    from skillit_stream.training.kernels import attention_options, choose, put_into

    heads = {} if kind == 'gpt_neox' else {'num_key_value_heads': 2}
    size = {'head_dim': 8} if kind == 'qwen3' else {}
    made = []
    for kernels in (choose('eager', kind, machine), choose(asked, kind, machine)):
        config = AutoConfig.for_model(
            kind,
            vocab_size=50,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=1,
            num_attention_heads=4,
            max_position_embeddings=32,
            **heads,
            **size,
        )
        model = AutoModelForCausalLM.from_config(config, **attention_options(kernels))
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(std=0.2, generator=generator)
        put_into(model, kernels)
        made.append(SkillLossModel(model, use_logits=True))
    return made[0], made[1]


def batch_of(device: str = 'cpu') -> dict[str, Any]:
    """Four samples of two skills, with labels that are ignored at the start, inside, and in a whole sample."""
    import torch

    tokens = torch.randint(0, 50, (4, 9), generator=torch.Generator().manual_seed(2))
    labels = tokens.clone()
    labels[0, 3:6] = -100
    labels[1, :5] = -100
    labels[3, :] = -100
    batch = {'input_ids': tokens, 'labels': labels, 'attention_mask': torch.ones_like(tokens)}
    return {name: value.to(device) for name, value in (batch | {'skill': torch.tensor([0, 1, 1, 0])}).items()}


def step(model: Any, *, counting: bool, device: str, precision: str, weighs: bool = False) -> dict[str, Any]:
    """A forward and backward pass: loss, gradients by parameter, sums by skill."""
    import torch

    model.to(device).train().zero_grad()
    if counting:
        model.count_skills(SKILLS)
    if weighs:
        model.weigh_skills([1.5, 0.25])
    batch = batch_of(device)
    half = torch.autocast(device, getattr(torch, precision)) if precision != 'float32' else nullcontext()
    with half:
        loss = model.loss(model(dict(batch)), batch)
    loss.backward()
    sums = model.take_skill_losses().tolist() if counting else []
    return {'loss': float(loss), 'gradients': [one.grad.clone() for one in model.parameters()], 'sums': sums}


def differences(
    kind: str, machine: Any, *, device: str = 'cpu', precision: str = 'float32', asked: str = 'auto'
) -> dict[str, Any]:
    """How far these kernels are from eager: relative differences of losses, gradients (norms), sums, logits."""
    import torch

    eager, fused = twins(kind, machine, asked)
    found: dict[str, Any] = {}
    for name, counting, weighs in (('False', False, False), ('True', True, False), ('weighed', True, True)):
        options: Any = {'counting': counting, 'weighs': weighs, 'device': device, 'precision': precision}
        one, other = step(eager, **options), step(fused, **options)
        pairs = zip(one['gradients'], other['gradients'], strict=True)
        found |= {
            f'loss, {name}': abs(one['loss'] - other['loss']) / one['loss'],
            f'gradients, {name}': max(float((a - b).norm() / a.norm()) for a, b in pairs),
        }
    ours, theirs = torch.tensor(other['sums']), torch.tensor(one['sums'])
    found['sums'] = float(((ours - theirs).abs() / theirs).max())
    with torch.no_grad():
        a, b = (model.eval()(batch_of(device)).logits for model in (eager, fused))
    found['logits'] = float((a - b).norm() / a.norm())
    return found


if __name__ == '__main__':
    interpret_triton()
    from skillit_stream.training.kernels import Machine

    gpu = Machine(gpu=True, packages=frozenset({'liger_kernel'}))
    *types, wanted = sys.argv[1:]
    print(json.dumps({one: differences(one, gpu, precision=wanted) for one in types}))
