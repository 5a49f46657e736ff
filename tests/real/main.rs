//! Real processes over loopback, as a user runs them.

mod attacks;
mod crashes;
mod harness;
mod life;
mod stores;
