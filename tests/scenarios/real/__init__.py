"""Real programs from the distribution's packages, with a fault and with its remedy."""
