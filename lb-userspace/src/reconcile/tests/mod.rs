//! Tests of planner, writer and reconciler together, on maps in memory.

mod examples;
mod fixtures;
mod foreign;
mod history;
mod idle;
mod meaning;
mod restart;
mod succession;
