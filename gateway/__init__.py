"""Every door into the platform: the API, the proxy, and the command line."""
