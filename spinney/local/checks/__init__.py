"""The checks of `spinney check`: what a fleet needs on this machine, and requirements for code of a user's own."""
