//! Settings from outside the command line: a file (kube-proxy's or our own kind) and the environment.
//!
//! Everything becomes arguments of `sluice run`, so that there is one list of settings, one parser and one set of
//! messages. What is given on the command line wins over the environment, and that over the file.

pub mod conntrack;
mod document;
pub mod effective;
pub mod file;
pub mod findings;
pub mod forward;
mod kube_proxy;
#[cfg(test)]
mod kube_proxy_tests;
mod sluice;
pub mod values;
