//! Nothing outlives a run, whoever is killed whenever: engine, launcher, and children of every unpleasant kind.
