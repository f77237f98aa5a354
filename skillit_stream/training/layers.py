"""The layers of a transformers model, which are all alike: what is sharded, recomputed or compiled one by one."""

from torch import nn
from transformers import PreTrainedModel


def layers_of(model: PreTrainedModel) -> list[nn.Module]:
    """Its layers in order: the modules that transformers itself never splits over devices; may be none."""
    kinds = set(model._no_split_modules or ())
    return [module for module in model.modules() if type(module).__name__ in kinds]
