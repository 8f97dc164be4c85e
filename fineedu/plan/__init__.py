"""What a run over all of its input will take, measured on a sample of it on this machine."""
