"""mmdet's 3x schedule: 36 epochs of COCO's 117,266 images with objects, 16 per step."""
_base_ = './schedule_12e.py'

epoch = 7_330  # iterations
max_iters = 36 * epoch
milestones = [27 * epoch, 33 * epoch]

train_cfg = dict(max_iters=max_iters)
param_scheduler = _base_.param_scheduler
param_scheduler[1].milestones = milestones
