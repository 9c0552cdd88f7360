"""The write side: one decider for each context, the loop that runs them, and the hands."""
