//! The support library of the tests.
