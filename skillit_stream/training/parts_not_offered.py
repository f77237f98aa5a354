"""Composer's algorithms and callbacks that a YAML of this package cannot name, and why."""

_IMAGES = 'it is for models of images'
_LABELS = 'it changes samples and labels, so that no loss would be of one skill; train on other data instead'
_NOT_RESUMABLE = 'Composer cannot go on from a checkpoint of a run with it'

_ALGORITHMS = {
    'alibi': 'it rebuilds BERT and GPT-2 as older versions of transformers had them; take a model that has ALiBi, '
    'model.config={model_type: bloom, ...}',
    'aug_mix': _IMAGES,
    'blur_pool': _IMAGES,
    'channels_last': _IMAGES,
    'col_out': _IMAGES,
    'cut_mix': _LABELS,
    'cut_out': _IMAGES,
    'factorize': 'the weights would no longer be those of the model that is configured, and could not be exported; '
    'choose a narrower model',
    'gated_linear_units': 'it rebuilds BERT alone; Llama and its kin have gated layers',
    'ghost_batch_norm': _IMAGES,
    'gyro_dropout': f'{_NOT_RESUMABLE}; model.config has the dropout of the model',
    'label_smoothing': 'the losses by skill would no longer be in nats per token of the text',
    'layer_freezing': _NOT_RESUMABLE,
    'low_precision_groupnorm': _IMAGES,
    'mix_up': _LABELS,
    'no_op_model': 'there would be no model to train',
    'progressive_resizing': _IMAGES,
    'rand_augment': _IMAGES,
    'sam': _NOT_RESUMABLE,
    'selective_backprop': 'it leaves out samples that count as trained; policy sample_curriculum chooses by loss',
    'seq_length_warmup': 'it cuts tokens away that count as trained; convert with a shorter --seq-len and train on',
    'squeeze_excite': _IMAGES,
    'stochastic_depth': _IMAGES,
    'weight_standardization': _IMAGES,
}
_CALLBACKS = {
    'checkpoint_saver': 'save_interval, checkpoint_folder and save_num_checkpoints_to_keep say what it would',
    'export_for_inference_callback': 'skillit export writes a folder that transformers loads',
    'image_visualizer': _IMAGES,
    'load_checkpoint': 'load_path with load_weights_only=true does it, and not again when the run goes on',
    'mlperf_callback': 'it is of a benchmark of image models',
}
NOT_OFFERED = {
    **{f'algorithms.{name}': why for name, why in _ALGORITHMS.items()},
    **{f'callbacks.{name}': why for name, why in _CALLBACKS.items()},
}
"""Key of a YAML -> the reason, a part of a sentence."""
