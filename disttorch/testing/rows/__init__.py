"""The rows of the table of samples, in files named as those of `disttorch.ops`."""
