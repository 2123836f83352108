"""mmdet's 3x schedule in steps of 8 images: 36 epochs of COCO's 117,266 images with objects."""
_base_ = './schedule_36e.py'

epoch = 14_659  # iterations
max_iters = 36 * epoch
milestones = [27 * epoch, 33 * epoch]

train_cfg = dict(max_iters=max_iters)
param_scheduler = _base_.param_scheduler
param_scheduler[1].milestones = milestones
auto_scale_lr = dict(base_batch_size=8)
