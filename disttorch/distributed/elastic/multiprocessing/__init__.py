"""See `disttorch.distributed.elastic.multiprocessing.errors`."""
