"""Which model answers for a group: the order of its promotions, people's interventions, routing, the gate."""
