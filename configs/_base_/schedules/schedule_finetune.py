"""Fine-tuning on a small data set with one GPU: epochs, the official batch, EMA, early stopping."""
# Often changed
epochs = 100
lr = 2.5e-5  # for `accumulate_to` images per step; scaled linearly if batch size and GPUs give another number
patience = 15  # training stops after this many epochs without a better AP
# Sometimes changed
accumulate_to = 16  # images per step: the official batch
warmup_iters = 100
weight_decay = 1e-4

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=epochs, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=lr, weight_decay=weight_decay),
    clip_grad=dict(max_norm=1.0, norm_type=2))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=warmup_iters),
    # falls to 0 at the last epoch, whatever train_cfg.max_epochs is
    dict(type='CosineAnnealingLR', by_epoch=True, convert_to_iter_based=True),
]

custom_hooks = [
    # Averages about 1,000 iterations, fewer at the start. strict_load=False leaves out classifiers of other classes.
    dict(type='EMAHook', ema_type='ExpMomentumEMA', momentum=0.001, gamma=500, update_buffers=True, strict_load=False),
    dict(type='EarlyStoppingHook', monitor='coco/bbox_mAP', rule='greater', min_delta=0.001, patience=patience),
    dict(type='InferenceCheckpointHook'),
]
