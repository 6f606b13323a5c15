//! HTTP as SPDY carries it (protocol.md §9, §10): the heads of requests, responses and pushes. One
//! module reads each from a header block, and another writes it to one.
//!
//! ```text
//!              header block → head      head → header block
//!   request    read_request             write_request
//!   response   read_response            write_response
//!   push       read_push                write_push
//! ```
//!
//! [`names`] has the names of the meta headers, and [`fields`] has the rules for all other fields,
//! including trailers. This module does not know streams or bodies; `server` and `client` call it.

mod date;
pub(crate) mod fields;
pub(crate) mod framing;
pub(crate) mod invalid;
pub(crate) mod list;
mod malformed;
mod names;
mod origin;
pub(crate) mod read_push;
pub(crate) mod read_request;
pub(crate) mod read_response;
pub(crate) mod write_push;
pub(crate) mod write_request;
pub(crate) mod write_response;

pub(crate) use self::{
    fields::ConnectionFields,
    invalid::{InvalidRequest, InvalidResponse},
    malformed::Malformed,
    origin::Origin,
    read_request::{Head, Heads},
    write_response::ResponseForm,
};
