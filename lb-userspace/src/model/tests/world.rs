//! The world: incremental equals from scratch, and who gets a contested frontend.
