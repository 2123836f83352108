"""36 epochs of the 16,551 images of VOC 2007 and 2012 trainval, 16 a step, with milestones like those of 3x on COCO."""
_base_ = './schedule_3x.py'

# Often changed
epoch = 1_035  # iterations
max_iters = 36 * epoch
milestones = [28 * epoch, 33 * epoch]
# Sometimes changed
val_interval = 2 * epoch

train_cfg = dict(max_iters=max_iters, val_interval=val_interval)
param_scheduler = _base_.param_scheduler
param_scheduler[1].milestones = milestones
