"""mmdet's 1x schedule: 12 epochs of COCO's 117,266 images with objects, 16 per step."""
_base_ = './schedule_3x.py'

epoch = 7_330  # iterations
max_iters = 12 * epoch
milestones = [8 * epoch, 11 * epoch]
warmup_iters = 500

train_cfg = dict(max_iters=max_iters)
param_scheduler = _base_.param_scheduler
param_scheduler[0].start_factor = 0.001
param_scheduler[0].end = warmup_iters + 1
param_scheduler[1].milestones = milestones
