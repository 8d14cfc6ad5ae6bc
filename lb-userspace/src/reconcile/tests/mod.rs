//! Tests of planner and writer together: histories of changes, carried out on maps in memory.

mod examples;
mod fixtures;
mod history;
mod meaning;
