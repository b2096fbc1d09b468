//! Records and results under fire: workers killed by the dozen, half-written results, poison, a consumer that stands still.
