"""Why a detector does not learn a data set: one measurement a file, the verdict in words, a page of pictures."""
