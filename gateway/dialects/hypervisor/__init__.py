"""The hypervisor app's paths and shapes: people and organisations, clusters and deployments."""
