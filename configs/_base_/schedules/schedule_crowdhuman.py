"""The authors' 50 epochs of CrowdHuman's 15,000 training images, 16 a step."""
_base_ = './schedule_3x.py'

# Often changed
max_iters = 46_875
milestones = [37_500]
# Sometimes changed
val_interval = 5_000

train_cfg = dict(max_iters=max_iters, val_interval=val_interval)
param_scheduler = _base_.param_scheduler
param_scheduler[1].milestones = milestones
