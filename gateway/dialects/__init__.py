"""The paths and shapes of the systems people come from: thin translations onto the platform's own verbs."""
