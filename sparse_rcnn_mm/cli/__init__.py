"""The commands of `sparse-rcnn`: one module per command, each with `main(argv) -> exit status`."""
