"""The HTTP gateway: one endpoint for the models of a whole fleet, without a JVM."""
