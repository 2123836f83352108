"""12 epochs with mmdet's numbers for QueryInst: a backbone that learns ten times slower, and small steps."""
_base_ = './schedule_12e.py'

lr = 1e-4
max_norm = 0.1  # of the gradients
warmup_iters = 1_000

optim_wrapper = dict(
    optimizer=dict(lr=lr),
    paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.1, decay_mult=1.0))),
    clip_grad=dict(max_norm=max_norm))
param_scheduler = _base_.param_scheduler
param_scheduler[0].end = warmup_iters + 1
