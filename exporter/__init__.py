"""Prometheus and OpenTelemetry exporter for the alert centres of several monitoring vendors."""
