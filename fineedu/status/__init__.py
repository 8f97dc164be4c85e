"""What a run does and did, told by what it leaves in its folder: metrics, state, ``fineedu status``."""
