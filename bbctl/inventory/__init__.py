"""An inventory file becomes a fleet: keys, members, sample, effective values."""
