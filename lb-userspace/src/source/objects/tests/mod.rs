//! Tests of the model as a whole: the resolver against a literal second reading of the rules, the world against a fresh
//! one.

mod cluster;
mod literal;
mod pods;
mod resolve;
mod rules;
mod world;
