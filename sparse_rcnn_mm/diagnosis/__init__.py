"""Finds out why a detector does not learn a data set: a file per measurement, a verdict in words, and a page."""
