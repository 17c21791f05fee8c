"""Records to screen. Takes records only, asks nothing."""
