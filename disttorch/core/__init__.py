"""Types, promotion, devices, shapes and the random stream: what the rest is built on."""
