"""USL-T: train cluster heads, and with `mode="finetune"` the encoder too, then pick from the learned clusters."""
