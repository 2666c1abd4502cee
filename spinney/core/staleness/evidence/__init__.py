"""Evidence that the losses of a champion have risen, or that its predictions have moved: sequential tests per group."""
