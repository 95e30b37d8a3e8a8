"""Classical hyperparameter search: the rival that a policy has to beat."""
