"""36 epochs with mmdet's numbers for QueryInst."""
_base_ = './schedule_queryinst_1x.py'

epoch = 7_330  # iterations
max_iters = 36 * epoch
milestones = [27 * epoch, 33 * epoch]
warmup_iters = 500

train_cfg = dict(max_iters=max_iters)
param_scheduler = _base_.param_scheduler
param_scheduler[0].end = warmup_iters + 1
param_scheduler[1].milestones = milestones
