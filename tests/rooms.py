"""The rooms of the packages, from the highest floor to the lowest."""

# A room imports from itself and from rooms on the lines below its own.
FLOORS = {
    "search": """
        testing
        console
        cli
        launch
        results
        store
        study
        samplers early_stopping
        objectives cluster
        space
        files
    """,
    "trainables": """
        testing
        worker
        export
        engine
        measure
        recipes
        method
        losses optimisers reparametrisations mask_updates
        metrics pruning
        models
        attacks data regularisers
        store
        core
    """,
}
