"""Engines of many machines: Ray and Slurm."""
