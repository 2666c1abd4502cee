"""The protocols of the gateway: their routes, bodies as records, errors in the form of each."""
