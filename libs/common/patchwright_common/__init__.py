"""What crosses the wire between the services: events, routes, delivery rules, telemetry."""
