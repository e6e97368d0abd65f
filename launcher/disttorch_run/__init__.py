"""The `disttorch-run` command: starts one worker per GPU or group of cores, watches over them, ends them together."""
