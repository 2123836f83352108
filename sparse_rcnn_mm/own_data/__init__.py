"""Training on your own data: recognize the format of a folder, read it, check it, and write the config."""
