"""The rivals, each with its own real code: Optuna, Ray Tune's OptunaSearch, BoTorch, Ax and Syne Tune's MOASHA.

As they ship, they share no training, so every trial trains from its initialisation. The measurements at the end of each
round count for their front anyway. With `shared`, a training that has ended is not repeated, and the rounds of a trial
are told one by one, as trials of their own, to those that can be told.
"""
