_base_ = './schedule_3x.py'

max_iters = 90_000
milestones = [60_000, 80_000]

train_cfg = dict(max_iters=max_iters)
param_scheduler = _base_.param_scheduler
param_scheduler[1].milestones = milestones
