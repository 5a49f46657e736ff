//! The project's own account of itself.

#[doc = include_str!("architecture.md")]
pub mod architecture {}
#[doc = include_str!("protocol.md")]
pub mod protocol {}
#[doc = include_str!("wire.md")]
pub mod wire {}
#[doc = include_str!("decisions.md")]
pub mod decisions {}
#[doc = include_str!("scale.md")]
pub mod scale {}
#[doc = include_str!("fusion.md")]
pub mod fusion {}
#[doc = include_str!("verification.md")]
pub mod verification {}
#[doc = include_str!("measuring.md")]
pub mod measuring {}
