"""The fits of a round: rows, requests and champions are read, groups fitted in tasks or one process, models written."""
