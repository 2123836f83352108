# Often changed
lr = 2.5e-5  # for a total batch of 16 images; --auto-scale-lr scales it for other batches
max_iters = 270_000
milestones = [210_000, 250_000]
# Sometimes changed
val_interval = 7_500
warmup_iters = 1_000
weight_decay = 1e-4

train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=val_interval)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=lr, weight_decay=weight_decay, fused=True),
    clip_grad=dict(max_norm=1.0, norm_type=2))
param_scheduler = [
    # mmengine reaches the full learning rate one iteration before `end`
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=warmup_iters + 1),
    dict(type='MultiStepLR', by_epoch=False, milestones=milestones, gamma=0.1),
]
auto_scale_lr = dict(base_batch_size=16, enable=False)
