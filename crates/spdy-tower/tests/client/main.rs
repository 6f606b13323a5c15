//! Requests over a session: the client against an axum server, and against one that does what it
//! wants.

mod bodies;
mod requests;
mod responses;
mod sessions;
#[path = "../support/mod.rs"]
mod support;
