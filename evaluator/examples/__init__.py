"""A bounded sample of what each member flagged, with the features, for its owner to look at."""
