"""A run: playbook, plan, locks, preflight, steps, journal; carried out, resumed, aborted."""
