"""The fast forms of a model, for training and for prediction: the same numbers in less time."""
