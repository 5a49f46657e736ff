//! Real processes over loopback, as a user runs them.

mod attacks;
mod benches;
mod crashes;
mod fusion;
mod harness;
mod life;
mod regions;
mod stores;
mod streams;
