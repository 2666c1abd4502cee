"""The Spark session. Nothing else reaches into the JVM."""
