//! Examples of the SPDY crates: see the files beside this one.
