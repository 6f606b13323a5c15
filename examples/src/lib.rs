//! Examples of the SPDY crates: see the files beside `src`. Each of them says how to run it.
//!
//! The code of the README is compiled as part of this crate.

#![cfg_attr(doctest, doc = include_str!("../../README.md"))]
