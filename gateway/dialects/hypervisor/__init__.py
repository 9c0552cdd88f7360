"""The hypervisor app's paths and shapes. So far: people and organisations."""
