"""Names of `torch.distributed.elastic` that scripts use; what restarts workers is `disttorch-run --max-restarts`."""
