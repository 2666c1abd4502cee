"""Which model answers for a group: selection among promotions, interventions by people, routing, the gate."""
