//! What the tests across the crates share.
//!
//! | Module | What it has |
//! |---|---|
//! | [`frames`] | frames as raw bytes, right ones and wrong ones |
//! | [`wire`] | a peer that writes such bytes and reads frames, on the codec alone |
//! | [`machine`] | the protocol machine of `spdy-session` under a clock of the test |
//! | [`pair`] | two such machines and the bytes between them |
//! | [`side`] | one side of a session over the driver, with such a peer |
//! | [`fed`] | a transport whose peer is the test itself, for code that is polled by hand |
//! | [`vectored`] | a transport in memory that takes several pieces with one write |
//! | [`panics`] | panics that a test did not ask for |
//! | [`effort`] | what work costs a thread, whatever else the machine does |
//! | [`conformance`] | the page that says which test proves which row of the checklist |
//! | [`built`] | programs of other packages, built for a test |
//! | [`process`] | the program `spdy-server` while it runs, and connections to it |
//! | [`vacant`] | an address at which nothing listens |
//!
//! A test of the session layer that used the session layer as its peer could not send what that
//! layer refuses to send, and would not notice a mistake that both ends make. So [`frames`] and
//! [`wire`] do not know it. Header blocks go out in stored deflate blocks, written here and not by
//! the encoder under test; received bytes are read with `spdy-frame`. The test `codec_vectors`
//! compares its decoder with recordings of other implementations.

mod application;
pub mod built;
pub mod conformance;
mod driven;
pub mod effort;
pub mod fed;
pub mod frames;
mod happened;
pub mod machine;
pub mod pair;
pub mod panics;
pub mod process;
mod received;
pub mod side;
pub mod vacant;
pub mod vectored;
pub mod wire;
